"""What a training step shows: latents of one frame and a fresh caption for each.

Everything is a function of the phase and of random numbers seeded by the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.demo.captions import caption
from models.demo.latents import Latents, training_scene
from models.demo.recipe import Phase
from models.demo.scenes import FRAMES, KINDS, SQUARE, Frame, pick
from models.demo.text import POSITIONS


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents (n, 4, h, w) of unit variance, of one frame, and what is said of them."""

    latents: Tensor
    captions: list[str]


def captioned(phase: Phase, latents: Latents, rng: Random) -> Batch:
    """What a step shows."""
    side = (1 - phase.square) / 2
    frame = pick(rng, FRAMES, (phase.square, side, side))
    texts: list[str] = []
    parts: list[Tensor] = []
    for _ in range(size_of(phase, frame)):
        kind = pick(rng, KINDS, phase.mix)
        pool = latents.pools[kind, frame]
        index = int(rng.random() * len(pool))
        parts.append(pool[index])
        scene = training_scene((kind, frame), index)
        texts.append(caption(scene, rng, phase.explicit, phase.terse))
    return Batch(torch.stack(parts).float() * latents.scale, texts)


def size_of(phase: Phase, frame: Frame) -> int:
    return phase.batch if frame == SQUARE else phase.batch * 2 // 3


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    for phase in phases:
        step -= phase.steps
        if step < 0:
            return phase
    return phases[-1]


def tokenized(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """The numbers of the tokens, (n, POSITIONS)."""
    encoded = tokenizer(texts, padding="max_length", max_length=POSITIONS, truncation=True)
    return torch.tensor(encoded["input_ids"])


def spread(count: int, dice: torch.Generator) -> Tensor:
    """Numbers 0..1 that are spread evenly, so that every batch sees all noise levels."""
    return (torch.arange(count) + torch.rand(count, generator=dice)) / count
