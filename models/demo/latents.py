"""The training set in memory: scenes and their latents, drawn and encoded once.

Scenes of one thing come first, scenes of two things after them.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

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
    """Latents (scenes, 4, 32, 32) in half precision, scaled to unit variance by `scale`."""

    values: Tensor
    scale: float
    singles: int


def training_scene(index: int, singles: int) -> Scene:
    rng = Random(index)
    return single(rng) if index < singles else pair(rng)


@torch.inference_mode()
def encode_all(vae: AutoencoderKL, recipe: UnetRecipe, device: torch.device) -> Latents:
    """Draws and encodes every training scene; the mean of the posterior is kept."""
    parts: list[Tensor] = []
    total = recipe.singles + recipe.pairs
    for first in range(0, total, AT_ONCE):
        indices = range(first, min(first + AT_ONCE, total))
        images = [draw(training_scene(index, recipe.singles)) for index in indices]
        parts.append(posterior_of(vae, pixels(images).to(device)).mean.half().cpu())
        if first % (AT_ONCE * 250) == 0:
            print(f"latents {first}/{total}", flush=True)
    values = torch.cat(parts)
    return Latents(values, 1 / values.float().std().item(), recipe.singles)


def pixels(images: list[Image.Image]) -> Tensor:
    """Pictures as the autoencoder wants them: (n, 3, h, w) in -1..1."""
    stack = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stack / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


def cached(path: Path, vae: AutoencoderKL, recipe: UnetRecipe, device: torch.device) -> Latents:
    """The set from its file, made on first use; delete the file when the autoencoder changes."""
    if not path.exists():
        made = encode_all(vae, recipe, device)
        torch.save({"values": made.values, "scale": made.scale, "singles": made.singles}, path)
    return Latents(**torch.load(path, weights_only=True))
