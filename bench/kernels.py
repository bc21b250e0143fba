"""Which kernels a picture is calculated by: for attention, for linear layers, for convolutions and
what their layout brings about. A stage of `bench.engine`; each in turns with the other one.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn.attention import sdpa_kernel

from bench.sitting import Sitting
from bench.subject import Figures, Subject
from bench.tables import neat
from models.attention import CUDNN_FIRST
from models.checkpoint import Checkpoint
from models.contract import Job
from models.linears import by_onednn
from models.merge import Forward, Way, plainly
from models.packing import with_packs
from models.shell import denoiser_name
from models.tuning import without_records

Setting: TypeAlias = Callable[[], AbstractContextManager[None]]


class Choice(NamedTuple):
    """Kernels that are told from others by what the model's way is, or by what it is run in."""

    name: str
    plain: tuple[Checkpoint, Setting]
    chosen: tuple[Checkpoint, Setting]


def kernels(subject: Subject) -> Figures:
    """Steps and decodes by each choice, against the same without it."""
    told: dict[str, Figures] = {}
    for choice in choices(subject):
        told[choice.name] = chosen_between(subject, choice)
        subject.keep({"kernels": told})
    return {"kernels": told}


def choices(subject: Subject) -> Iterator[Choice]:
    """Those that the device has; the small models of a trial have a GPU's too."""
    model = subject.model
    own = replace(model, way=without_records(plainly))
    ways: dict[str, Way] = {}
    if subject.small or model.device.type == "cuda":
        ways["cuDNN's attention first"] = cudnn_first(own.way)
    if model.device.type == "cpu":
        denoiser = getattr(model.pipe, denoiser_name(model.pipe))
        ways["linear layers by oneDNN"] = by_onednn(denoiser, own.way)
        ways["packed convolutions"] = with_packs(denoiser, own.way)
    for name, way in ways.items():
        if way is not own.way:  # else there is nothing to choose
            yield Choice(name, (own, nullcontext), (replace(model, way=way), nullcontext))
    contiguous = partial(laid_out, model.pipe, torch.contiguous_format)
    channels = partial(laid_out, model.pipe, torch.channels_last)
    yield Choice("channels last", (own, contiguous), (own, channels))


def chosen_between(subject: Subject, choice: Choice) -> Figures:
    """Figures of one choice; gated: the same picture."""
    name, plain, chosen = choice
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
