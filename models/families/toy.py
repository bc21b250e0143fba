"""A family without weights, for trying the whole system, faults included, where torch is not.

Paints a gradient that depends on the seed, the prompt and the input. A word of the prompt makes it
misbehave: "slow" (50 ms a step), "crash" (the process dies at step 2), "oom" (no room for more than
one canvas), "oom-always", "nan" (a picture that is not finite), "odd" (the same for odd seeds),
"hang" (a step that never ends).
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from models.canvas import Call, Easel, NotFinite, OutOfMemory
from models.contract import Image, Job, ModelSpec, Task

SIZE = 1 << 20
STEP_SECONDS = 0.002
SLOW_SECONDS = 0.05


def load(spec: ModelSpec, device: str) -> "Toy":
    """A toy; the path "broken" is the one that cannot be loaded, "stuck" never ends to be."""
    if spec.path == "broken":
        raise ValueError("this toy is broken")
    while spec.path == "stuck":
        time.sleep(3600)
    return Toy()


@dataclass(frozen=True, slots=True)
class Toy:
    """Paints without a network."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Everything."""
        return ("generate", "edit", "inpaint")

    @property
    def size(self) -> int:
        """A megabyte, though it has none: enough to try what runs out of memory."""
        return SIZE

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        words = job.prompt.split()
        for step in range(1, job.steps + 1):
            easel.ask(Call("forward", (job.width, job.height), forward, (words, step)))
            easel.step(step, job.steps, partial(gradient, 8, 8, step))
        if "nan" in words or ("odd" in words and job.seeds[index] % 2):
            raise NotFinite("asked for")
        tone = [job.prompt, job.seeds[index], job.loras, *(image.pixels for image in inputs)]
        return gradient(
            job.width, job.height, int(hashlib.sha256(repr(tone).encode()).hexdigest(), 16)
        )

    def settle(self) -> None:
        """Nothing runs on by itself."""


def forward(calls: Sequence[Call]) -> Sequence[None]:
    """A step of several toys at once."""
    words = {word for call in calls for word in call.arguments[0]}
    late = any(step >= 2 for _, step in (call.arguments for call in calls))
    if "crash" in words and late:
        os._exit(13)
    if "oom-always" in words or ("oom" in words and len(calls) > 1):
        raise OutOfMemory(f"asked for, with {len(calls)} at once")
    while "hang" in words:
        time.sleep(3600)
    time.sleep(SLOW_SECONDS if "slow" in words else STEP_SECONDS)
    return [None] * len(calls)


def gradient(width: int, height: int, tone: int) -> Image:
    """An RGB image whose colours are told by `tone`."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = tone & 255, tone >> 8 & 255, tone >> 16 & 255
    pixels = np.stack([red + x, green + y, blue + x + y], axis=-1).astype(np.uint8)
    return Image(width, height, "RGB", pixels.tobytes())
