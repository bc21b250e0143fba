"""What the shortcuts that change pictures gain: caches of steps, layers in 8 bits, and both.

How far pictures are off says little here, for the weights are random; and how many steps a cache
skips is theirs to say, so only the forecast's seconds are those of a trained model. The stage comes
last: layers that were put in 8 bits stay so.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bench.kernels import median
from bench.sitting import MODEL, Memory, Sitting
from bench.subject import WARM_STEPS, Figures, Subject
from bench.tables import neat
from bench.tunings import whole
from models import eight
from models.canvas import Unloadable
from models.checkpoint import Checkpoint
from models.contract import Job, ModelSpec, Tuning
from models.shell import denoiser_name
from models.shortcuts import LEAST_STEPS, Shortcuts

TUNINGS: Mapping[str, Tuning] = {
    "step_cache": Tuning(step_cache=0.1),
    "step_forecast": Tuning(step_forecast=3),
}


def lossy(subject: Subject) -> Figures:
    """Each by itself, against the same picture without it; each is kept at once."""
    steps = LEAST_STEPS if subject.small else subject.steps
    job = subject.job(steps=steps)
    plain = Painted.of(subject, subject.model, job)
    figures: Figures = {
        "lossy_plain_seconds": plain.seconds,
        "lossy_steps": steps,
        "compiled": compiled(subject.model),
    }
    keys = TUNINGS if steps >= LEAST_STEPS else {}
    for key in keys:
        figures[key] = foreseen(subject, key, job, plain) if subject.in_time() else skipped()
        subject.keep(figures)
    figures["fp8"] = in_eight_bits(subject, job, plain) if subject.in_time() else skipped()
    subject.keep(figures)
    for key in keys if "picture_seconds" in figures["fp8"] else {}:
        both = together(subject, key, job, plain) if subject.in_time() else skipped()
        figures[f"fp8+{key}"] = both
        subject.keep(figures)
    return figures


def skipped() -> Figures:
    """What there was no time for."""
    return {"skipped": "no time was left"}


class Painted:
    """A picture painted again and again, as for a client."""

    def __init__(self, sittings: list[Sitting]) -> None:
        self.seconds = median(each.seconds for each in sittings)
        self.last = sittings[-1]

    @classmethod
    def of(cls, subject: Subject, model: Checkpoint, job: Job) -> "Painted":
        """One more than is measured: the first is slow for reasons that do not come back."""
        _, *rest = (whole(model, job) for _ in range(subject.rounds + 1))
        return cls(rest)


def compiled(model: Checkpoint) -> bool:
    """Whether parts of its denoiser were compiled before, which all that is told here is with."""
    denoiser = getattr(model.pipe, denoiser_name(model.pipe))
    return any(part._compiled_call_impl is not None for part in denoiser.modules())


def foreseen(subject: Subject, key: str, job: Job, plain: Painted) -> Figures:
    """With steps that are predicted; a strict job must not notice."""
    try:
        model = foretold(subject, key)
    except Unloadable as error:
        return {"refused": str(error)}
    strict = subject.job(steps=job.steps, strict=True)
    exact = Sitting(model, settled=False).finish([strict])
    off = int(np.abs(exact.pixels(strict) - plain.last.pixels(job)).max())
    subject.gate(f"{key}: a strict picture off the plain one", off, 0)
    return told(Painted.of(subject, model, job), job, plain)


def foretold(subject: Subject, key: str) -> Checkpoint:
    """The model, some steps of which are predicted.

    Raises:
        Unloadable: it has no such steps.
    """
    spec = ModelSpec(id=MODEL, family=subject.family, width=8, height=8, tuning=TUNINGS[key])
    return replace(subject.model, shortcuts=Shortcuts.of(subject.model.pipe, spec))


def in_eight_bits(subject: Subject, job: Job, plain: Painted) -> Figures:
    """With large layers in 8 bits, where the device can."""
    denoiser = subject.model.pipe.components.get("transformer")
    try:
        eight.refuse(subject.model.device)
    except Unloadable as error:
        return {"refused": str(error)}
    error = eight.off(subject.model.device)
    subject.gate("fp8: a layer off the plain one", error, eight.TOLERANCE)
    if denoiser is None or not eight.in_eight_bits(denoiser, subject.model.device):
        return {"refused": "no large layers"}
    Sitting(subject.model).finish([subject.job(steps=WARM_STEPS)])
    memory = Memory(subject.model)
    figures = told(Painted.of(subject, subject.model, job), job, plain)
    peak = memory.peak_gb()
    return figures | {"layer_off": neat(error), "peak_gb": None if peak is None else neat(peak)}


def together(subject: Subject, key: str, job: Job, plain: Painted) -> Figures:
    """Layers in 8 bits, as they are by now, and steps that are predicted."""
    try:
        model = foretold(subject, key)
    except Unloadable as error:
        return {"refused": str(error)}
    return told(Painted.of(subject, model, job), job, plain)


def told(painted: Painted, job: Job, plain: Painted) -> Figures:
    """Seconds, how much faster, and how far off."""
    off = np.abs(painted.last.pixels(job) - plain.last.pixels(job))
    return {
        "picture_seconds": painted.seconds,
        "gain": neat(plain.seconds / painted.seconds),
        "notes": list(painted.last.notes[job.id]),
        "off_mean_levels": neat(float(off.mean())),
    }
