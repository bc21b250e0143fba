"""One checkpoint that is measured: how it is asked to paint, its gates, and diffusers' own way to
paint the same."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from bench.architectures import SMALL_SIDE, Usual
from bench.sitting import MODEL
from bench.tables import neat
from models.checkpoint import Checkpoint, Images
from models.contract import Job
from models.recall import Recall

PROMPT = "a red circle on a blue background"
WARM_STEPS = 2  # of a picture that is not measured
FEW_STEPS = 5  # of one whose steps are measured each by itself
LEVELS = 1  # of 255; how far a picture in company may be from itself alone, in float32
MEAN_LEVELS = 4.0  # the same in bfloat16, on average: rounding grows along the steps

Figures: TypeAlias = dict[str, Any]


def nowhere(figures: Figures) -> None:
    """Figures are not kept before their stage is over."""


@dataclass(slots=True)
class Subject:
    """One checkpoint, and how it is to be measured."""

    name: str
    usual: Usual
    model: Checkpoint
    small: bool
    rounds: int
    family: str
    gates: list[Figures] = field(default_factory=list[Figures])
    folder: Path | None = None  # where its weights are, unless they were made up
    keep: Callable[[Figures], None] = nowhere  # figures of a stage that is not over yet
    best: int = 1  # canvases in one forward that bring the most images per second
    ways: Figures = field(default_factory=dict)  # figures of other ways to run its denoiser
    deadline: float = math.inf  # of time.monotonic(); what comes in parts begins none later

    @property
    def side(self) -> int:
        """px; of its native picture."""
        return SMALL_SIDE if self.small else self.usual.side

    @property
    def steps(self) -> int:
        """Of a whole picture."""
        return min(4, self.usual.steps) if self.small else self.usual.steps

    @property
    def few_steps(self) -> int:
        """Of a picture whose steps are measured."""
        return min(FEW_STEPS, self.steps)

    def in_time(self) -> bool:
        """Whether another part may begin."""
        return time.monotonic() <= self.deadline

    def job(self, name: str = "owl", **changes: Any) -> Job:
        """A native picture, or another."""
        told = {
            "id": name,
            "model": MODEL,
            "task": "generate",
            "prompt": PROMPT,
            "width": self.side,
            "height": self.side,
            "steps": self.steps,
            "guidance": self.usual.guidance,
            "seeds": (0,),
        }
        return Job(**(told | changes))

    def gate(self, what: str, value: float, limit: float) -> None:
        """Note whether a value is within its limit."""
        self.gates.append({"what": what, "value": value, "limit": limit, "ok": value <= limit})

    def compare(self, what: str, a: np.ndarray, b: np.ndarray, *, alike: bool = False) -> Figures:
        """How far two pictures are apart, in levels of 255; gated by what the precision allows.

        `alike`: their forwards had the same shapes, and no precision excuses a difference.
        """
        off = np.abs(a - b)
        highest, mean = int(off.max()), neat(float(off.mean()))
        if alike or self.model.pipe.vae.dtype == torch.float32:
            self.gate(what, highest, LEVELS)
        else:
            self.gate(f"{what}, mean", mean, MEAN_LEVELS)
        return {"off_max_levels": highest, "off_mean_levels": mean}


def forgetful(model: Checkpoint) -> Checkpoint:
    """The model, remembering no prompt, as diffusers remembers none."""
    return replace(model, recall=Recall())


def bare(model: Checkpoint, job: Job, *alike: Job) -> torch.Tensor:
    """diffusers' own pipeline, called once for pictures that differ in nothing but their seeds and
    prompts; they are of shape (count, 3, height, width) and stay on the device."""
    pipe, jobs = model.pipe, (job, *alike)
    pipe.set_progress_bar_config(disable=True)
    said = model.family.arguments(pipe, type(pipe), job, Images())
    prompts = [each.prompt for each in jobs]
    said["prompt"], said["num_images_per_prompt"] = job.prompt, len(jobs)
    if len(set(prompts)) > 1:  # of one, it is read once
        said["prompt"], said["num_images_per_prompt"] = prompts, 1
        if "negative_prompt" in said:
            said["negative_prompt"] = [said["negative_prompt"]] * len(jobs)
    return pipe(
        num_inference_steps=job.steps,
        **said,
        generator=[torch.Generator("cpu").manual_seed(each.seeds[0]) for each in jobs],
        output_type="pt",
    ).images
