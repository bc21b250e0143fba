"""Which kernels a picture is calculated by: those for attention, and those that the layout of
convolutions brings about. A stage of `bench.engine`; each in turns with the other one.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch.nn.attention import sdpa_kernel

from bench.sitting import Sitting
from bench.subject import Figures, Subject
from bench.tables import neat
from models.attention import CUDNN_FIRST
from models.checkpoint import Checkpoint
from models.contract import Job
from models.merge import Forward, Way, plainly
from models.shell import denoiser_name
from models.tuning import without_records

Setting: TypeAlias = Callable[[], AbstractContextManager[None]]


def kernels(subject: Subject) -> Figures:
    """Steps and decodes by each choice, against the same without it."""
    own = replace(subject.model, way=without_records(plainly))
    cudnn = replace(subject.model, way=cudnn_first(own.way))
    contiguous = partial(laid_out, subject.model.pipe, torch.contiguous_format)
    channels = partial(laid_out, subject.model.pipe, torch.channels_last)
    told: dict[str, Figures] = {}
    for name, plain, chosen in (
        ("cuDNN's attention first", (own, nullcontext), (cudnn, nullcontext)),
        ("channels last", (own, contiguous), (own, channels)),
    ):
        told[name] = chosen_between(subject, name, plain, chosen)
        subject.keep({"kernels": told})
    return {"kernels": told}


def chosen_between(
    subject: Subject,
    name: str,
    plain: tuple[Checkpoint, Setting],
    chosen: tuple[Checkpoint, Setting],
) -> Figures:
    """Figures of one choice; gated: the same picture."""
    job = subject.job(steps=subject.few_steps)
    # One more, for the first is slow for reasons that do not come back.
    pairs = ((painted(*plain, job), painted(*chosen, job)) for _ in range(subject.rounds + 1))
    _, *rounds = pairs
    before, after = rounds[-1]
    off = subject.compare(f"{name}: off plain", before.pixels(job), after.pixels(job))
    return of_steps(rounds) | off


def of_steps(rounds: list[tuple[Sitting, Sitting]]) -> Figures:
    """Medians of pairs: seconds of steps and decodes of both, and how much faster the second is."""
    return {
        "step_seconds": median(each.step_seconds for _, each in rounds),
        "decode_seconds": median(each.decode_seconds for _, each in rounds),
        "eager_step_seconds": median(each.step_seconds for each, _ in rounds),
        "eager_decode_seconds": median(each.decode_seconds for each, _ in rounds),
        "step_gain": median(a.step_seconds / b.step_seconds for a, b in rounds),
        "decode_gain": median(a.decode_seconds / b.decode_seconds for a, b in rounds),
    }


def painted(model: Checkpoint, setting: Setting, job: Job) -> Sitting:
    """One picture in that setting, each step by itself."""
    with setting():
        return Sitting(model).finish([job])


def cudnn_first(way: Way) -> Way:
    """The way, with that order of kernels wherever it is run."""

    def ordered(forward: Forward) -> Any:
        with sdpa_kernel(list(CUDNN_FIRST), set_priority=True):
            return way(forward)

    return ordered


@contextmanager
def laid_out(pipe: Any, layout: torch.memory_format) -> Iterator[None]:
    """Meanwhile the convolutions of denoiser and VAE lie so; then as before, at the same place."""
    laid = convolutions(pipe)
    before = [each.weight.data for each in laid]
    for each in laid:
        each.weight.data = each.weight.to(memory_format=layout)
    try:
        yield
    finally:
        for each, weight in zip(laid, before, strict=True):
            each.weight.data = weight


def convolutions(pipe: Any) -> list[torch.nn.Conv2d]:
    """Those of pictures, in denoiser and VAE."""
    parts = [pipe.vae, getattr(pipe, denoiser_name(pipe))]
    modules = (each for part in parts for each in part.modules())
    return [each for each in modules if isinstance(each, torch.nn.Conv2d)]


def median(values: Any) -> float:
    """Four digits of it."""
    return neat(statistics.median(values))
