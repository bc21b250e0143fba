"""The training set in memory: scenes and their latents, drawn and encoded once.

Scenes of one thing come first, scenes of two things after them.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from models.demo.recipe import UnetRecipe
from models.demo.scenes import Scene, draw, pair, single
from models.demo.vae import posterior_of

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Latents:
    """Latents (scenes, 4, 16, 16) in half precision, scaled to unit variance by `scale`."""

    values: Tensor
    scale: float
    singles: int


def training_scene(index: int, singles: int) -> Scene:
    rng = Random(index)
    return single(rng) if index < singles else pair(rng)


@torch.inference_mode()
def encode_from(
    start: int, vae: AutoencoderKL, recipe: UnetRecipe, device: torch.device
) -> list[Tensor]:
    """Draws and encodes the training scenes from `start` on; the mean of the posterior is kept."""
    parts: list[Tensor] = []
    total = recipe.singles + recipe.pairs
    for first in range(start, total, AT_ONCE):
        indices = range(first, min(first + AT_ONCE, total))
        images = [draw(training_scene(index, recipe.singles)) for index in indices]
        parts.append(posterior_of(vae, pixels(images).to(device)).mean.half().cpu())
        if len(parts) % 250 == 1:
            print(f"latents {first}/{total}", flush=True)
    return parts


def pixels(images: list[Image.Image]) -> Tensor:
    """Pictures as the autoencoder wants them: (n, 3, h, w) in -1..1, channels last."""
    stack = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stack / 127.5 - 1).permute(0, 3, 1, 2)


def cached(path: Path, vae: AutoencoderKL, recipe: UnetRecipe, device: torch.device) -> Latents:
    """The set from its file; what the file lacks is made first, and the scale is set only once.

    Delete the file when the encoder or the number of singles changes.
    """
    kept: dict[str, Any] = torch.load(path, weights_only=True) if path.exists() else {}
    known = [kept["values"]] if kept else []
    fresh = encode_from(len(known[0]) if known else 0, vae, recipe, device)
    if fresh:
        values = torch.cat([*known, *fresh])
        scale = kept.get("scale", 1 / values.float().std().item())
        kept = {"values": values, "scale": scale, "singles": recipe.singles}
        torch.save(kept, path)
    return Latents(**kept)
