"""What is measured of one full-size checkpoint, stage by stage, each with its correctness gates.

A stage takes a `Subject` and returns figures: seconds, unless their name says otherwise. Everything
that is compared is measured in turns in one run and given as the median.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from bench.architectures import SMALL_SIDE, Architecture, tiny_preview
from bench.sitting import MODEL, Memory, Sitting, Spoiled, counted, cut_short
from bench.stopwatch import Stopwatch, Turns, watched
from models.checkpoint import Checkpoint, Images
from models.contract import Job
from models.pixels import Arrival
from models.preview import encoded

PROMPT = "a red circle on a blue background"
WARM_STEPS = 2
CURVE_STEPS = 5
LOOKS = 4  # steps whose previews are timed
LEVELS = 1  # of 255; how far a picture in company may be from itself alone, in float32
MEAN_LEVELS = 4.0  # the same in bfloat16, on average: rounding grows along the steps

Figures: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Subject:
    """One checkpoint, and how it is to be measured."""

    name: str
    shape: Architecture
    model: Checkpoint
    small: bool
    rounds: int
    gates: list[Figures] = field(default_factory=list[Figures])

    @property
    def side(self) -> int:
        """px; of its native picture."""
        return SMALL_SIDE if self.small else self.shape.side

    @property
    def steps(self) -> int:
        """Of a whole picture."""
        return min(4, self.shape.steps) if self.small else self.shape.steps

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
            "guidance": self.shape.guidance,
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


def neat(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


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
    """The studio against the stock pipeline with the same components and steps, in turns."""
    bare(subject.model, subject.job(steps=WARM_STEPS))
    rounds = [in_turns(subject.model, subject.job()) for _ in range(subject.rounds)]
    (_, _, first, _), (_, _, ours, stock) = rounds[0], rounds[-1]
    subject.gate("off itself, painted again", int(np.abs(first - ours).max()), 0)
    return {
        "picture_seconds": neat(statistics.median(each[0] for each in rounds)),
        "bare_seconds": neat(statistics.median(each[1] for each in rounds)),
        "studio_to_bare": neat(statistics.median(each[0] / each[1] for each in rounds)),
        "to_bare": subject.compare("off the stock pipeline's", ours, stock, alike=True),
    }


def in_turns(model: Checkpoint, job: Job) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Seconds of the studio and of the stock pipeline for the same picture, and both pictures."""
    model.settle()
    began = time.perf_counter()
    picture = bare(model, job)
    model.settle()
    took = time.perf_counter() - began
    ours = Sitting(model, settled=False).finish([job])
    stock = np.frombuffer(Arrival(picture).image().pixels, np.uint8).astype(np.int16)
    return ours.seconds, took, ours.pixels(job), stock


def bare(model: Checkpoint, job: Job) -> torch.Tensor:
    """diffusers' own pipeline; a picture of shape (3, height, width) that stays on the device."""
    pipe = model.pipe
    pipe.set_progress_bar_config(disable=True)
    said = model.family.arguments(pipe, type(pipe), job, Images())
    return pipe(
        prompt=job.prompt,
        num_inference_steps=job.steps,
        **said,
        generator=torch.Generator("cpu").manual_seed(job.seeds[0]),
        output_type="pt",
    ).images[0]


def operations(subject: Subject) -> Figures:
    """How much arithmetic a step is, as counted by torch."""
    return {"tflop_per_step": neat(counted(subject.model, subject.job()))}


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


def curve(subject: Subject, side: int) -> Figures:
    """Ever more canvases in one forward, until there is no room for more."""
    return {
        f"batch_{side}": list(company(subject, side, (1, 2) if subject.small else (1, 2, 4, 8)))
    }


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
        yield row(sitting, alone, memory.peak_gb()) | compared(subject, sitting, alone)


def twice(subject: Subject, side: int, canvases: int) -> Sitting | None:
    """The second of two sittings: the first is slow for reasons that do not come back.

    None where there was no room.
    """
    told = {"width": side, "height": side}
    seeds = range(canvases - 1, -1, -1)
    sittings: list[Sitting] = []
    try:
        for steps in (WARM_STEPS, CURVE_STEPS):
            jobs = [subject.job(str(n), seeds=(n,), steps=steps, **told) for n in seeds]
            sittings.append(Sitting(subject.model, canvases).finish(jobs))
    except Spoiled as error:
        if "out_of_memory" not in str(error):
            raise
        return None
    return sittings[-1]


def row(sitting: Sitting, alone: Sitting, peak: float | None) -> Figures:
    """The figures of one company."""
    gain = sitting.company * alone.step_seconds / sitting.step_seconds
    return {
        "canvases": sitting.company,
        "step_seconds": neat(sitting.step_seconds),
        "decode_seconds": neat(sitting.decode_seconds),
        "gain": neat(gain),  # times as many steps per second as alone
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


def stages(small: bool) -> Mapping[str, Callable[[Subject], Figures]]:
    """All of them, in the order in which they are wanted."""
    sides = (SMALL_SIDE,) if small else (512, 1024)
    return {
        "picture": picture,
        "against bare": against_bare,
        "operations": operations,
        "cancel": cancel,
        "preview": preview,
        "encode": encode,
        **{f"batches at {side} px": partial(curve, side=side) for side in sides},
    }
