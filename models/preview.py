"""A small picture of what a canvas is going to be, for next to nothing.

A linear map from latents to RGB, fitted to the model's own VAE when it is loaded: one pixel per
latent. Or, sharper and dearer, a tiny autoencoder that was trained to decode the same latents.
Decoding in earnest would cost as much as several steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKLQwenImage, AutoencoderTiny
from torch.nn import functional

from models import audit
from models.canvas import Unloadable
from models.contract import Image
from models.pixels import Arrival

VIDEO = (AutoencoderKLQwenImage,)  # VAEs whose pictures have a time
SAMPLES, SIDE = 8, 128  # images to fit on, and their size in px
LARGEST = 32  # latents a side that a tiny autoencoder is shown: the picture is for a glance


class Preview(Protocol):
    """Makes a picture of latents."""

    def render(self, latents: torch.Tensor) -> Image:
        """An RGB image of unscaled latents (channels, h, w), as the VAE would be given them."""
        ...


@dataclass(frozen=True, slots=True)
class Projection:
    """Factors of shape (channels + 1, 3); the last row is the constant."""

    factors: torch.Tensor

    def render(self, latents: torch.Tensor) -> Image:
        """An RGB image of one pixel per latent, from unscaled latents (channels, h, w)."""
        ones = torch.ones_like(latents[:1])
        pixels = torch.cat([latents, ones]).float().movedim(0, -1) @ self.factors
        return Arrival(shown(pixels).movedim(-1, 0)).image(black=True)


@dataclass(frozen=True, slots=True)
class Tiny:
    """An autoencoder of a few megabytes; it takes latents as the denoiser has them."""

    decoder: AutoencoderTiny
    shift: float  # of the model's own VAE
    scale: float

    @classmethod
    def load(cls, folder: Path, vae: Any) -> "Tiny":
        """The decoder in a diffusers folder, beside the VAE that it stands in for.

        Raises:
            Unloadable: the folder is damaged, or made for other latents.
        """
        audit.refuse_code(folder)
        audit.refuse_pickles(folder)
        decoder: Any = audit.load_model(folder, "diffusers", "AutoencoderTiny", vae.dtype)
        ours, theirs = decoder.config.latent_channels, getattr(vae.config, "latent_channels", None)
        if ours != theirs:
            raise Unloadable(
                f"{folder} decodes latents of {ours} channels; this model's have {theirs}"
            )
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        scale = getattr(vae.config, "scaling_factor", None) or 1.0
        return cls(decoder.to(vae.device), shift, scale)

    def render(self, latents: torch.Tensor) -> Image:
        """An RGB image of eight pixels per latent, of larger ones made smaller."""
        seen = ((latents - self.shift) * self.scale)[None]
        factor = LARGEST / max(seen.shape[-2:])
        if factor < 1:
            seen = functional.interpolate(seen.float(), scale_factor=factor, mode="area")
        with torch.no_grad():
            (decoded,) = self.decoder.decode(seen.to(self.decoder.dtype), return_dict=False)[0]
        return Arrival(shown(decoded.float() / 2 + 0.5)).image(black=True)


def shown(pixels: torch.Tensor) -> torch.Tensor:
    """Within 0 … 1, whatever they are: a preview that went wrong is no reason to end a picture."""
    return torch.nan_to_num(pixels).clamp(0, 1)


def of(vae: Any, tiny: Path | None) -> Preview:
    """What shows the latents of a VAE.

    Raises:
        Unloadable: see `Tiny.load`.
    """
    return Tiny.load(tiny, vae) if tiny else fit(vae)


def fit(vae: Any) -> Projection:
    """Fit a projection by least squares on smooth random images that the VAE encodes."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(SAMPLES, 3, 4, 4, generator=generator)
    images = functional.interpolate(noise, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        latents = encoded(vae, (images * 2 - 1).to(vae.device, vae.dtype)).float()
    small = functional.interpolate(images, latents.shape[-2:], mode="area").to(latents.device)
    rows = latents.movedim(1, -1).flatten(0, -2)
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    targets = small.movedim(1, -1).flatten(0, -2)
    # The pseudo-inverse, because a VAE may leave a latent channel constant.
    return Projection(torch.linalg.pinv(rows.cpu()).to(rows.device) @ targets)


def encoded(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """Latents (n, channels, h, w), also of a VAE for videos, to which an image is one frame."""
    if type(vae) in VIDEO:
        return vae.encode(images[:, :, None]).latent_dist.mode()[:, :, 0]
    return vae.encode(images).latent_dist.mode()
