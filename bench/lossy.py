"""What the shortcuts that change pictures gain: caches of steps, and layers in 8 bits.

How far pictures are off says little here, for the weights are random. The stage comes last: layers
that were put in 8 bits stay so.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bench.sitting import MODEL, Memory, Sitting
from bench.subject import WARM_STEPS, Figures, Subject, neat
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
    """Each by itself, against the same picture without it."""
    steps = LEAST_STEPS if subject.small else subject.steps
    job = subject.job(steps=steps)
    plain = Sitting(subject.model, settled=False).finish([job])
    figures: Figures = {
        "lossy_plain_seconds": neat(plain.seconds),
        "compiled": compiled(subject.model),
    }
    if steps >= LEAST_STEPS:
        figures |= {key: cut_short(subject, key, job, plain) for key in TUNINGS}
    return figures | {"fp8": in_eight_bits(subject, job, plain)}


def compiled(model: Checkpoint) -> bool:
    """Whether parts of its denoiser were compiled before, which all that is told here is with."""
    denoiser = getattr(model.pipe, denoiser_name(model.pipe))
    return any(part._compiled_call_impl is not None for part in denoiser.modules())


def cut_short(subject: Subject, key: str, job: Job, plain: Sitting) -> Figures:
    """With steps that are predicted; a strict job must not notice."""
    spec = ModelSpec(id=MODEL, family=subject.family, width=8, height=8, tuning=TUNINGS[key])
    try:
        shortcuts = Shortcuts.of(subject.model.pipe, spec)
    except Unloadable as error:
        return {"refused": str(error)}
    model = replace(subject.model, shortcuts=shortcuts)
    strict = subject.job(steps=job.steps, strict=True)
    exact = Sitting(model, settled=False).finish([strict])
    off = int(np.abs(exact.pixels(strict) - plain.pixels(job)).max())
    subject.gate(f"{key}: a strict picture off the plain one", off, 0)
    return told(Sitting(model, settled=False).finish([job]), job, plain)


def in_eight_bits(subject: Subject, job: Job, plain: Sitting) -> Figures:
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
    figures = told(Sitting(subject.model, settled=False).finish([job]), job, plain)
    peak = memory.peak_gb()
    return figures | {"layer_off": neat(error), "peak_gb": None if peak is None else neat(peak)}


def told(sitting: Sitting, job: Job, plain: Sitting) -> Figures:
    """Seconds, how much faster, and how far off."""
    off = np.abs(sitting.pixels(job) - plain.pixels(job))
    return {
        "seconds": neat(sitting.seconds),
        "gain": neat(plain.seconds / sitting.seconds),
        "off_mean_levels": neat(float(off.mean())),
    }
