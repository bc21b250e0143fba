"""The training loop that both stages share: learning rate, moving average, checkpoints, progress.

A batch is a pure function of its step number, so a checkpoint needs no random state: weights,
optimizer, average and step are enough to go on exactly where a run stopped.
"""

import copy
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAVE_EVERY = 120.0  # seconds
SAY_EVERY = 50  # steps


@dataclass(frozen=True, slots=True)
class Stage:
    """What is trained, on which loss (of a step number), and how hard."""

    name: str
    model: nn.Module
    loss: Callable[[int], Tensor]
    optimizers: Sequence[torch.optim.Optimizer]
    steps: int
    warmup: int
    level: int = 0  # the step up to which the learning rate stays at its peak
    ema: float = 0.0  # 0: no moving average, the last weights count


def train(stage: Stage, folder: Path, *, resume: bool) -> nn.Module:
    """Runs the stage to its last step and returns the model to keep (the average, if any)."""
    for group in groups(stage):
        group.setdefault("peak", group["lr"])
    kept = copy.deepcopy(stage.model) if stage.ema else stage.model
    path = folder / f"{stage.name}.pt"
    first = load(path, stage, kept) if resume and path.exists() else 0
    clock, halt, mean = Clock(first, stage.steps), Halt(), 0.0
    for step in range(first, stage.steps):
        loss = advance(stage, step)
        if stage.ema:
            follow(kept, stage.model, min(stage.ema, (1 + step) / (10 + step)))
        mean = loss if step == first else 0.98 * mean + 0.02 * loss
        if (step + 1) % SAY_EVERY == 0:
            print(
                f"{stage.name} {step + 1}/{stage.steps} loss {mean:.4f} {clock.eta(step + 1)}",
                flush=True,
            )
        if clock.due() or halt.asked or step + 1 == stage.steps:
            save(path, stage, kept, step + 1)
        if halt.asked:
            sys.exit(f"{stage.name} stopped and saved at step {step + 1}")
    return kept


def advance(stage: Stage, step: int) -> float:
    for group in groups(stage):
        group["lr"] = group["peak"] * pace(step, stage)
    loss = stage.loss(step)
    loss.backward()
    nn.utils.clip_grad_norm_(stage.model.parameters(), 1.0)
    for optimizer in stage.optimizers:
        optimizer.step()
    stage.model.zero_grad(set_to_none=True)
    return loss.item()


def groups(stage: Stage) -> list[dict[str, Any]]:
    return [group for optimizer in stage.optimizers for group in optimizer.param_groups]


def pace(step: int, stage: Stage) -> float:
    """Share of the peak learning rate: a linear rise, level ground, half a cosine down to zero."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    descent = stage.steps - max(stage.warmup, stage.level)
    return 0.5 * (1 + math.cos(math.pi * max(0.0, 1 - (stage.steps - step) / descent)))


@torch.no_grad()
def follow(kept: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the average a little towards the model."""
    pairs = zip(kept.parameters(), model.parameters(), strict=True)
    mine, its = (list(side) for side in zip(*pairs, strict=True))
    torch._foreach_lerp_(mine, its, 1 - decay)


@dataclass(slots=True)
class Clock:
    """Tells when to save and when it will be over; has no say in what is computed."""

    first: int
    steps: int
    began: float = 0.0
    saved: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.saved = time.monotonic()

    def eta(self, done: int) -> str:
        pace = (time.monotonic() - self.began) / max(1, done - self.first)
        return f"{pace:.3f} s/step, {(self.steps - done) * pace / 60:.1f} min left"

    def due(self) -> bool:
        now = time.monotonic()
        if now - self.saved < SAVE_EVERY:
            return False
        self.saved = now
        return True


class Halt:
    """Whether SIGTERM or SIGINT came: the run then saves after its step and ends."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.ask)

    def ask(self, number: int, frame: object) -> None:
        self.asked = True


def save(path: Path, stage: Stage, kept: nn.Module, step: int) -> None:
    """Writes the checkpoint beside the old one and renames it over it."""
    state = {
        "step": step,
        "model": stage.model.state_dict(),
        "kept": kept.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in stage.optimizers],
    }
    fresh = path.with_suffix(".tmp")
    torch.save(state, fresh)
    fresh.replace(path)


def load(path: Path, stage: Stage, kept: nn.Module) -> int:
    """Restores all of a checkpoint; returns the step to go on with."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    stage.model.load_state_dict(state["model"])
    kept.load_state_dict(state["kept"])
    for optimizer, saved in zip(stage.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])


def read_kept(path: Path) -> dict[str, Tensor]:
    """The weights to keep of a checkpoint."""
    return torch.load(path, map_location="cpu", weights_only=True)["kept"]
