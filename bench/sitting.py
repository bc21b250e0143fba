"""A studio at work for a measurement: what it painted, and when its steps were done.

With `settled`, the device is waited for after every tick, so that each step has a time of its own;
without, only at the end, as in production.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers
from models import device
from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Cancelled, Failed, Finished, Image, Job, Step
from models.merge import plainly
from models.studio import Studio

MODEL = "bench"
KINDS = ("forward", "decode")
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
Shape: TypeAlias = tuple[int, ...]


def attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """FLOP of the operator that attention is on a CPU, which torch's counter does not know."""
    return sdpa_flop_count(query, key, value)


COUNTERS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}


class Spoiled(Exception):
    """A picture did not come out; the text says which and why."""


@dataclass(slots=True)
class Sitting:
    """Some canvases of one model, all in the same company."""

    model: Checkpoint
    company: int = 1  # canvases that may share a call
    settled: bool = True
    images: dict[str, Image] = field(default_factory=dict)
    notes: dict[str, Sequence[str]] = field(default_factory=dict)  # of finished pictures
    faults: list[str] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)  # when a tick brought a step to its end
    steps: int = 0  # of all canvases
    ticks: int = 0  # but for those that only waited for a picture to arrive from the device
    cancelled: int = 0
    seconds: float = 0.0  # from the first canvas to the last one's pixels
    ended: float = 0.0
    studio: Studio = field(init=False)

    def __post_init__(self) -> None:
        self.studio = Studio(self._hear)
        for kind in KINDS:
            self.studio.cap(MODEL, kind, self.company)

    def tick(self) -> None:
        """One call, or several in one."""
        before = self.steps
        self.ticks += self.studio.tick() != "arrival"
        if self.settled:
            self.model.settle()
            if self.steps > before:
                self.stamps.append(time.perf_counter())

    def start(self, job: Job) -> None:
        """Put up the job's first picture."""
        self.studio.start(self.model, job, 0, (), None)

    def until_step(self, step: int) -> None:
        """Go on until so many steps are done.

        Raises:
            Spoiled: a picture ended before.
        """
        while self.steps < step:
            if not len(self.studio):
                raise Spoiled("; ".join(self.faults))
            self.tick()

    def finish(self, jobs: Sequence[Job]) -> "Sitting":
        """Paint these to their ends.

        Raises:
            Spoiled: one did not come out.
        """
        self.model.settle()
        began = time.perf_counter()
        for job in jobs:
            self.start(job)
        while len(self.studio):
            self.tick()
        self.model.settle()
        self.ended = time.perf_counter()
        self.seconds = self.ended - began
        if self.faults:
            raise Spoiled("; ".join(self.faults))
        return self

    @property
    def step_seconds(self) -> float:
        """The median over all steps but the first."""
        return statistics.median(b - a for a, b in zip(self.stamps, self.stamps[1:], strict=False))

    @property
    def decode_seconds(self) -> float:
        """From the last step to the last canvas's pixels."""
        return self.ended - self.stamps[-1]

    def seconds_of(self, steps: int) -> float:
        """Of all its canvases, had they so many steps."""
        return steps * self.step_seconds + self.decode_seconds

    def pixels(self, job: Job) -> np.ndarray[Any, np.dtype[np.int16]]:
        """A finished picture's bytes, fit to be subtracted."""
        return np.frombuffer(self.images[job.id].pixels, np.uint8).astype(np.int16)

    def _hear(self, event: AnyEvent) -> None:
        if isinstance(event, Step):
            self.steps += 1
        elif isinstance(event, Finished):
            self.images[event.job] = event.image
            self.notes[event.job] = event.notes
        elif isinstance(event, Failed):
            self.faults.append(f"{event.job}: {event.fault.kind}, {event.fault.detail}")
        elif isinstance(event, Cancelled):
            self.cancelled += 1


def counted(model: Checkpoint, job: Job) -> tuple[float, float]:
    """TFLOP of the matrix products, convolutions and attention of the job's one step, and of its
    decoding: those of torch's own kernels, for of others its counter knows nothing.

    Raises:
        Spoiled: the picture did not come out.
    """
    sitting = Sitting(replace(model, way=plainly))
    sitting.start(job)
    with FlopCounterMode(display=False, custom_mapping=COUNTERS) as counter:
        sitting.until_step(1)
        step = counter.get_total_flops()
        while len(sitting.studio):
            sitting.tick()
        whole = counter.get_total_flops()
    if sitting.faults:
        raise Spoiled("; ".join(sitting.faults))
    return step / 1e12, (whole - step) / 1e12


def cut_short(model: Checkpoint, job: Job) -> tuple[int, float]:
    """Steps and seconds from a cancellation, wished for as a step begins, to the end of it.

    As in a worker, which hears of it between two ticks: the step that has begun is finished.

    Raises:
        Spoiled: it was not cancelled.
    """
    sitting = Sitting(model)
    sitting.start(job)
    sitting.until_step(1)
    before, wished = sitting.steps, time.perf_counter()
    sitting.tick()
    sitting.studio.cancel(job.id, 0)
    model.settle()
    took = time.perf_counter() - wished
    if not sitting.cancelled:
        raise Spoiled(f"{job.id} was not cancelled")
    return sitting.steps - before, took


class Memory:
    """The most that the device held for a model at a time (on a CPU, the whole process), and how
    often that was not enough (known of GPUs only)."""

    def __init__(self, model: Checkpoint) -> None:
        self._device = model.device if model.device.type == "cuda" else None
        self._ran_out = self._others = 0
        if self._device:
            device.give_back()
            self._others = torch.cuda.memory_allocated(self._device) - model.size
            torch.cuda.reset_peak_memory_stats(self._device)
            self._ran_out = torch.cuda.memory_stats(self._device)["num_ooms"]
        elif CLEAR.exists():
            CLEAR.write_text("5")  # forgets the peak; proc(5)

    def peak_gb(self) -> float | None:
        """10⁹ bytes; None where it is not known."""
        if self._device:
            return (torch.cuda.max_memory_allocated(self._device) - self._others) / 1e9
        if not STATUS.exists():
            return None
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if "VmHWM" in line)

    def shortages(self) -> int:
        """Allocations that failed since; the studio answers them with smaller groups."""
        if not self._device:
            return 0
        return torch.cuda.memory_stats(self._device)["num_ooms"] - self._ran_out
