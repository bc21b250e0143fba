"""What is measured of one checkpoint, stage by stage, each with its correctness gates.

A stage takes a `Subject` and returns figures: seconds, unless their name says otherwise. Everything
that is compared is measured in turns in one run and given as the median.
"""

import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.architectures import SMALL_SIDE, tiny_preview
from bench.kernels import convolutions, kernels, laid_out
from bench.served import served
from bench.sitting import Memory, Sitting, Spoiled, counted, cut_short
from bench.stopwatch import Stopwatch, Turns, watched
from bench.subject import FEW_STEPS, PROMPT, WARM_STEPS, Figures, Subject, bare, forgetful
from bench.tables import neat
from models import attention
from models.attention import fastest_first
from models.checkpoint import Checkpoint
from models.contract import Job
from models.merge import Forward, Way, plainly
from models.pixels import Arrival
from models.preview import encoded
from models.shell import denoiser_name

LOOKS = 4  # steps whose previews are timed
WORTHWHILE = 1.05  # times as many steps per second as fewer canvases bring


def picture(subject: Subject) -> Figures:
    """One whole picture through the studio, every step by itself."""
    model = subject.model
    Sitting(model).finish([subject.job(steps=WARM_STEPS)])
    memory = Memory(model)
    sitting = Sitting(model).finish([subject.job()])
    peak = memory.peak_gb()
    return {
        "step_seconds": neat(sitting.step_seconds),
        "decode_seconds": neat(sitting.decode_seconds),
        "peak_gb": None if peak is None else neat(peak),
    }


def against_bare(subject: Subject) -> Figures:
    """The studio against the stock pipeline with the same components and steps, in turns: as it
    comes, and with the kernels that the studio takes. Both read the prompt each time."""
    in_turns(subject.model, subject.job(steps=WARM_STEPS))
    rounds = [in_turns(subject.model, subject.job()) for _ in range(subject.rounds)]
    first, last = rounds[0], rounds[-1]
    subject.gate("off itself, painted again", int(np.abs(first.ours - last.ours).max()), 0)
    as_it_comes = [each.as_it_comes for each in rounds if each.as_it_comes is not None]
    return {
        "as_it_comes_seconds": neat(statistics.median(as_it_comes)) if as_it_comes else None,
        "picture_seconds": neat(statistics.median(each.seconds for each in rounds)),
        "bare_seconds": neat(statistics.median(each.bare for each in rounds)),
        "studio_to_bare": neat(statistics.median(each.seconds / each.bare for each in rounds)),
        "to_bare": subject.compare("off the stock pipeline's", last.ours, last.theirs, alike=True),
    }


class Turn(NamedTuple):
    """Seconds of the same picture in each way, and two of the pictures."""

    seconds: float  # of the studio
    bare: float  # of the stock pipeline, with the studio's kernels
    as_it_comes: float | None  # of the stock pipeline; None where that is the same
    ours: np.ndarray
    theirs: np.ndarray  # the stock pipeline's, with the studio's kernels


def in_turns(model: Checkpoint, job: Job) -> Turn:
    """The stock pipeline, and then the studio."""
    untouched = None
    if has_own_kernels(model):
        with laid_out(model.pipe, torch.contiguous_format):
            untouched = timed(model, partial(bare, model, job))[0]
    took, pictures = timed(model, partial(stock, model, job))
    ours = Sitting(forgetful(model), settled=False).finish([job])
    theirs = np.frombuffer(Arrival(pictures[0]).image().pixels, np.uint8).astype(np.int16)
    return Turn(ours.seconds, took, untouched, ours.pixels(job), theirs)


def timed(model: Checkpoint, paint: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds until the device is done, and what came out."""
    model.settle()
    began = time.perf_counter()
    pictures = paint()
    model.settle()
    return time.perf_counter() - began, pictures


def has_own_kernels(model: Checkpoint) -> bool:
    """Whether others calculate than would for the stock pipeline as it comes."""
    weights = [each.weight for each in convolutions(model.pipe)]
    return attention.order_for(model.device) is not None or any(
        not weight.is_contiguous() for weight in weights
    )


def stock(model: Checkpoint, job: Job) -> torch.Tensor:
    """As `bare`, with the kernels for attention that the studio takes, and where it does: no two of
    them give the same numbers."""
    way = fastest_first(model.device, plainly)
    parts = (getattr(model.pipe, denoiser_name(model.pipe)), model.pipe.vae.decoder)
    for part in parts:
        part.forward = run_by(way, part.forward)
    try:
        return bare(model, job)
    finally:
        for part in parts:
            del part.forward  # the class's own remains


def run_by(way: Way, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run in that way."""

    @wraps(function)  # pipelines look at its arguments
    def run(*args: Any, **kwargs: Any) -> Any:
        return way(Forward(partial(function, *args), kwargs))

    return run


def operations(subject: Subject) -> Figures:
    """How much arithmetic a step is, and decoding a picture, as counted by torch."""
    step, rest = counted(subject.model, subject.job(steps=1))
    return {"tflop_per_step": neat(step), "tflop_to_decode": neat(rest)}


def cancel(subject: Subject) -> Figures:
    """How long a picture goes on after its cancellation, at the worst."""
    steps, seconds = cut_short(subject.model, subject.job())
    subject.gate("steps after a cancellation", steps, 1)
    return {"cancel_steps": steps, "cancel_seconds": neat(seconds)}


def preview(subject: Subject) -> Figures:
    """A preview by linear factors, and by a tiny autoencoder, as shares of a step."""
    model = subject.model
    watch = Stopwatch(model.settle)
    ways = {"factors": model.preview, "tiny": tiny_preview(model)}
    turns = Turns(watch, {name: way for name, way in ways.items() if way is not None})
    watched(replace(model, preview=turns), subject.job(steps=LOOKS + 1), watch)
    step = statistics.median(watch.seconds["step"][1:])
    looks = turns.medians()
    return {
        "preview_seconds": {name: neat(took) for name, took in looks.items()},
        "preview_of_a_step": {name: neat(took / step) for name, took in looks.items()},
    }


def encode(subject: Subject) -> Figures:
    """The VAE's encoding of one native picture, as for an edit."""
    model = subject.model
    image = torch.rand(1, 3, subject.side, subject.side, device=model.device) * 2 - 1
    seconds: list[float] = []
    for _ in range(subject.rounds + 1):
        model.settle()
        began = time.perf_counter()
        with torch.no_grad():
            encoded(model.pipe.vae, image.to(model.pipe.vae.dtype))
        model.settle()
        seconds.append(time.perf_counter() - began)
    return {"encode_seconds": neat(statistics.median(seconds[1:]))}


def texts(subject: Subject) -> Figures:
    """What the text encoders take for a prompt that they have not read before."""
    model, seconds = subject.model, list[float]()
    read = model.pipe.encode_prompt
    wanted = inspect.signature(read).parameters
    said = {"device": model.device, "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    rest = {name: value for name, value in said.items() if name in wanted}
    rest |= {f"prompt_{n}": None for n in (2, 3) if f"prompt_{n}" in wanted}
    for _ in range(subject.rounds + 1):
        model.settle()
        began = time.perf_counter()
        with torch.no_grad():
            read(prompt=PROMPT, **rest)
        model.settle()
        seconds.append(time.perf_counter() - began)
    return {"text_seconds": neat(statistics.median(seconds[1:]))}


def curve(subject: Subject, side: int) -> Figures:
    """Ever more canvases in one forward, until there is no room for more."""
    rows = list(company(subject, side, (1, 2) if subject.small else (1, 2, 4, 8)))
    step, rest = counted(subject.model, subject.job(steps=1, width=side, height=side))
    for row in rows:
        row["tflop_per_picture"] = neat(subject.steps * step + rest)
    if side == subject.side:
        gains = {row["canvases"]: row.get("gain", 0.0) for row in rows}
        most = max(gains.values())
        subject.best = min(count for count in gains if gains[count] * WORTHWHILE >= most)
    return {f"batch_{side}": rows}


def company(subject: Subject, side: int, sizes: tuple[int, ...]) -> Iterator[Figures]:
    """A row of the curve for each size; the last canvas of each is the one that was alone."""
    alone: Sitting | None = None
    for canvases in sizes:
        memory = Memory(subject.model)
        sitting = twice(subject, side, canvases)
        if sitting is None or memory.shortages():
            yield {"canvases": canvases, "out_of_memory": True}
            return
        alone = alone or sitting
        each = row(sitting, alone, subject.steps, memory.peak_gb())
        yield each | compared(subject, sitting, alone)


def twice(subject: Subject, side: int, canvases: int) -> Sitting | None:
    """The second of two sittings: the first is slow for reasons that do not come back.

    None where there was no room.
    """
    told = {"width": side, "height": side}
    seeds = range(canvases - 1, -1, -1)
    sittings: list[Sitting] = []
    try:
        for steps in (WARM_STEPS, FEW_STEPS):
            jobs = [subject.job(str(n), seeds=(n,), steps=steps, **told) for n in seeds]
            sittings.append(Sitting(subject.model, canvases).finish(jobs))
    except Spoiled as error:
        if "out_of_memory" not in str(error):
            raise
        return None
    return sittings[-1]


def row(sitting: Sitting, alone: Sitting, steps: int, peak: float | None) -> Figures:
    """The figures of one company, whose whole pictures have so many steps."""
    gain = sitting.company * alone.step_seconds / sitting.step_seconds
    took, took_alone = (each.seconds_of(steps) / each.company for each in (sitting, alone))
    return {
        "canvases": sitting.company,
        "step_seconds": neat(sitting.step_seconds),
        "decode_seconds": neat(sitting.decode_seconds),
        "gain": neat(gain),  # times as many steps per second as alone
        "picture_seconds": neat(took),
        "picture_gain": neat(took_alone / took),  # the same of whole pictures, decoded
        "peak_gb": None if peak is None else neat(peak),
    }


def compared(subject: Subject, sitting: Sitting, alone: Sitting) -> Figures:
    """Gates: company shares its calls, does not change a picture, and mixes none up."""
    if sitting is alone:
        return {}
    what = f"{sitting.company} canvases at {painted_side(sitting)} px"
    subject.gate(f"{what}: ticks beyond those alone", sitting.ticks - alone.ticks, 0)
    first, last = (sitting.images[str(seed)] for seed in (sitting.company - 1, 0))
    subject.gate(f"{what}: two seeds painted the same", float(first == last), 0)
    job = subject.job("0")
    return subject.compare(f"{what}: off the same alone", sitting.pixels(job), alone.pixels(job))


def painted_side(sitting: Sitting) -> int:
    """px; of what was painted."""
    return next(iter(sitting.images.values())).width


def stages(small: bool, sides: Sequence[int] = ()) -> Mapping[str, Callable[[Subject], Figures]]:
    """All of them, in the order in which they are wanted."""
    sides = (SMALL_SIDE,) if small else sides or (512, 1024)
    return {
        "picture": picture,
        "against bare": against_bare,
        "operations": operations,
        "kernels": kernels,
        "cancel": cancel,
        "preview": preview,
        "encode": encode,
        "texts": texts,
        **{f"batches at {side} px": partial(curve, side=side) for side in sides},
        **({"served": served} if find_spec("fastapi") else {}),
    }
