"""Clocks beside a picture that is being painted: of its calls, of its steps and of its previews."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from models.canvas import Call
from models.checkpoint import Checkpoint
from models.contract import Image, Job
from models.preview import Preview


@dataclass(slots=True)
class Stopwatch:
    """An easel that runs every call at once and shows every step; seconds by what they went to.

    "forward" and "decode" are calls; "step" is a whole step without its preview, "look" a whole
    preview. Whatever is timed waits for the device before and after.
    """

    settle: Callable[[], None]
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _step_began: float = 0.0

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Add the seconds of the block to those of `what`."""
        self.settle()
        began = time.perf_counter()
        yield
        self.settle()
        self.seconds[what].append(time.perf_counter() - began)

    def ask(self, call: Call) -> Any:
        """Run the call by itself."""
        if not self._step_began:
            self.settle()
            self._step_began = time.perf_counter()
        with self.timing(call.kind):
            return call.run([call])[0]

    def step(self, done: int, of: int, preview: Callable[[], Image] | None = None) -> None:
        """The end of a step, and the making of its preview."""
        self.settle()
        self.seconds["step"].append(time.perf_counter() - self._step_began)
        assert preview is not None
        with self.timing("look"):
            preview()
        self._step_began = time.perf_counter()

    def note(self, text: str) -> None:
        """Nothing that is measured depends on it."""


@dataclass(frozen=True, slots=True)
class Turns:
    """A preview that is made in each of several ways in turn; the watch is theirs alone."""

    watch: Stopwatch
    ways: dict[str, Preview]

    def render(self, latents: torch.Tensor) -> Image:
        """What the last of them shows."""
        shown = []
        for name, way in self.ways.items():
            with self.watch.timing(name):
                shown.append(way.render(latents))
        return shown[-1]

    def medians(self) -> dict[str, float]:
        """Seconds of a whole preview in each way: what all of them need is counted for each."""
        parts = list(zip(*(self.watch.seconds[name] for name in self.ways), strict=True))
        looks = self.watch.seconds["look"]
        shared = [look - sum(each) for look, each in zip(looks, parts, strict=True)]
        return {
            name: statistics.median(
                a + b for a, b in zip(self.watch.seconds[name], shared, strict=True)
            )
            for name in self.ways
        }


def watched(model: Checkpoint, job: Job, watch: Stopwatch) -> Stopwatch:
    """The times of one picture, painted from text."""
    model.paint(job, 0, (), None, watch)
    return watch
