"""How sharp enlarged pictures are, held against scenes drawn at the larger size.

`make grade ARGS=models/demo/enlarger`. What is enlarged is what the shipped autoencoder gives back
of scenes that were never trained on; 1024 px are made as the server makes them, the network first
and Lanczos after it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from models.demo.enlarging import TIMES, drawn, given_back
from models.demo.scenes import HELD_OUT, KINDS, SIDE, compose
from models.enlarging import Enlarger

NOISE = {"": 0.0, ", disturbed by a tenth": 0.1}  # of latents of unit variance
Way = Callable[[Tensor], Tensor]  # (1, 3, h, w) of 0..1, made larger


def lanczos(times: int) -> Way:
    """So many times as wide and as high, by a filter."""

    def enlarge(pictures: Tensor) -> Tensor:
        levels = (pictures[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        size = levels.shape[1] * times, levels.shape[0] * times
        large = Image.fromarray(levels).resize(size, Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(large, dtype=np.float32) / 255).permute(2, 0, 1)[None]

    return enlarge


@torch.no_grad()
def decibels(
    enlarge: Way, vae: AutoencoderKL, seeds: Sequence[int], noise: float, times: int = TIMES
) -> float:
    """PSNR of enlarged square scenes of all kinds, over all their pixels."""
    dice, errors = torch.Generator().manual_seed(0), list[Tensor]()
    for seed in seeds:
        scene = compose(KINDS[seed % len(KINDS)], Random(seed))
        (painted,) = given_back(vae, [scene], [noise], dice)
        large = enlarge(painted[None])[0].clamp(0, 1)
        errors.append((large - drawn(scene, times).to(large.device)).square().mean())
    return float(-10 * torch.stack(errors).mean().log10())


def comparison(file: Path, vae: AutoencoderKL, count: int) -> list[str]:
    """Rows of Markdown: what is enlarged, by Lanczos alone, with the network."""
    network = Enlarger.load(file, torch.device("cpu"))
    filters = {times: lanczos(times) for times in (2, TIMES, 2 * TIMES)}
    ways: dict[int, Way] = {
        TIMES: network.run,
        2 * TIMES: lambda pictures: filters[2](network.run(pictures)),
    }
    seeds = range(HELD_OUT, HELD_OUT + count)
    lines = ["| | Lanczos, dB | enlarger, dB |", "|---|---|---|"]
    for times, way in ways.items():
        for said, noise in NOISE.items():
            both = (decibels(one, vae, seeds, noise, times) for one in (filters[times], way))
            lines.append(
                f"| {SIDE * times} px{said} | {' | '.join(f'{one:.1f}' for one in both)} |"
            )
    return lines
