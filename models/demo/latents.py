"""The training set in memory: scenes and their latents, drawn and encoded once.

There is one pool of scenes for each kind of scene in each frame.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from models.demo.drawing import draw
from models.demo.recipe import POOLS, Pool
from models.demo.scenes import FRAMES, HELD_OUT, KINDS, Scene, compose
from models.demo.vae import posterior_of

AT_ONCE = 16
BLOCK = 8  # pixels a side, of which the autoencoder makes one place


@dataclass(frozen=True, slots=True)
class Latents:
    """Latents (scenes, 4, height / 8, width / 8) of each pool; times `scale` they have unit
    variance."""

    pools: dict[Pool, Tensor]
    scale: float


def training_scene(pool: Pool, index: int) -> Scene:
    """A scene of a pool; no two pools share a seed."""
    kind, frame = pool
    number = KINDS.index(kind) * len(FRAMES) + FRAMES.index(frame)
    seed = number * 1_000_000 + index
    assert seed < HELD_OUT
    return compose(kind, Random(seed), frame)


@torch.inference_mode()
def encode(pool: Pool, count: int, vae: AutoencoderKL, device: torch.device) -> Tensor:
    """Draws and encodes the first scenes of a pool; the mean of the posterior is kept."""
    parts: list[Tensor] = []
    for first in range(0, count, AT_ONCE):
        indices = range(first, min(first + AT_ONCE, count))
        images = [draw(training_scene(pool, index)) for index in indices]
        parts.append(posterior_of(vae, pixels(images).to(device)).mean.half().cpu())
    return torch.cat(parts)


def pixels(images: list[Image.Image]) -> Tensor:
    """Pictures as the autoencoder wants them: (n, 3, h, w) in -1..1, channels last."""
    stack = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(stack / 127.5 - 1).permute(0, 3, 1, 2)


def cached(
    path: Path, vae: AutoencoderKL, device: torch.device, pools: dict[Pool, int] | None = None
) -> Latents:
    """The set from its file; what the file lacks is made first, and the scale is set only once.

    Delete the file when the encoder or a scene changes.
    """
    kept: dict[str, Any] = torch.load(path, weights_only=True) if path.exists() else {"pools": {}}
    known: dict[str, Tensor] = kept["pools"]
    wanted = POOLS if pools is None else pools
    for pool, count in wanted.items():
        if label(pool) not in known:
            known[label(pool)] = encode(pool, count, vae, device)
            print(f"latents: {count} of {label(pool)}", flush=True)
    if "scale" not in kept:
        kept["scale"] = 1 / torch.cat([part.flatten() for part in known.values()]).float().std()
    kept["scale"] = float(kept["scale"])
    torch.save(kept, path)
    return Latents({pool: known[label(pool)] for pool in wanted}, kept["scale"])


def coarse(pools: dict[Pool, int]) -> Latents:
    """Mean colours of blocks in the place of latents; the fourth channel is where things are,
    whatever their colours. So outlines are learned apart from colours and from fine edges."""
    blocks = {
        pool: torch.stack([blocks_of(training_scene(pool, index)) for index in range(count)])
        for pool, count in pools.items()
    }
    spread = torch.cat([part.flatten() for part in blocks.values()]).std()
    return Latents(blocks, float(1 / spread))


def blocks_of(scene: Scene) -> Tensor:
    """Of a plain scene: (4, height / 8, width / 8) in -1..1."""
    things = tuple(replace(thing, color="white") for thing in scene.things)
    stencil = replace(scene, background="black", things=things)
    colors, places = pixels([draw(one).reduce(BLOCK) for one in (scene, stencil)])
    return torch.cat([colors, places[:1]])


def label(pool: Pool) -> str:
    kind, (width, height) = pool
    return f"{kind} {width}x{height}"
