"""A small picture of what a canvas is going to be, for next to nothing.

A linear map from latents to RGB, fitted to the model's own VAE when it is loaded: one pixel per
latent. Decoding in earnest would cost as much as several steps.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from torch.nn import functional

from models.contract import Image
from models.pixels import from_tensor

VIDEO = (AutoencoderKLQwenImage,)  # VAEs whose pictures have a time
SAMPLES, SIDE = 8, 128  # images to fit on, and their size in px


@dataclass(frozen=True, slots=True)
class Projection:
    """Factors of shape (channels + 1, 3); the last row is the constant."""

    factors: torch.Tensor

    def render(self, latents: torch.Tensor) -> Image:
        """An RGB image of one pixel per latent, from unscaled latents (channels, h, w)."""
        ones = torch.ones_like(latents[:1])
        pixels = torch.cat([latents, ones]).float().movedim(0, -1) @ self.factors
        return from_tensor(torch.nan_to_num(pixels).clamp(0, 1).movedim(-1, 0))


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
