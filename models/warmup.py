"""The first pictures of a model: they warm it up and tell how many canvases pay at once."""

import contextlib
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from models.canvas import Call, Canvas, CanvasCancelled, Model, OutOfMemory
from models.contract import Cap, Image, Job, ModelSpec

STEPS = 4
GUIDANCE = 4.0
SIZES = (2, 3, 4, 6, 8, 12, 16)  # canvases per forward that are tried, in order
WORTHWHILE = 1.05  # times as many canvases per second, for each doubling of those in a forward
COMPANY = 4.5  # times as long as alone that a call in company may take
PATIENCE = 10.0  # seconds; a device this slow gains nothing from larger forwards
ALIKE = 0.75  # of an area; what is not smaller by more has the same caps

Seconds: TypeAlias = Mapping[str, float]  # of one call, by its kind
Size: TypeAlias = tuple[int, int]  # width and height, px


class WarmUpFailed(Exception):
    """The model loaded but cannot paint."""


def warm_up(model: Model, spec: ModelSpec) -> tuple[Cap, ...]:
    """Paint in ever larger company; for each kind of call and size, how many canvases it may hold.

    That many still raised throughput, and kept none waiting COMPANY times as long as alone. The
    largest size comes first: what there is no time to measure is smaller, and has the caps of a
    larger one.

    Raises:
        WarmUpFailed: a picture did not come out.
    """
    rehearse(model, spec)
    end = time.perf_counter() + PATIENCE
    largest, *smaller = measured(spec)
    lockstep(model, spec, largest, 1)  # the first is slow for reasons that do not come back
    caps = [*search(model, spec, largest, end)]
    for size in smaller:
        if time.perf_counter() < end:
            caps += search(model, spec, size, end)
    return tuple(caps)


def rehearse(model: Model, spec: ModelSpec) -> None:
    """Have all that is compiled met once: every size; one row, and several.

    Raises:
        WarmUpFailed: a picture did not come out.
    """
    if not spec.tuning.compile:
        return
    alone, together = 1, min(2, spec.max_batch)
    lockstep(model, spec, (spec.width, spec.height), alone, steps=1, guidance=1.0)
    for size in sizes(spec):
        lockstep(model, spec, size, alone, steps=1)
        with contextlib.suppress(OutOfMemory):  # then they will be painted one by one
            lockstep(model, spec, size, together, steps=1)


def sizes(spec: ModelSpec) -> Sequence[Size]:
    """All that are tried ahead."""
    return ((spec.width, spec.height), *spec.buckets)


def measured(spec: ModelSpec) -> Sequence[Size]:
    """Those whose caps are measured: one of each that are about alike, the largest first."""
    chosen: list[Size] = []
    for size in sorted(sizes(spec), key=area, reverse=True):
        if not chosen or area(size) < ALIKE * area(chosen[-1]):
            chosen.append(size)
    return chosen


def area(size: Size) -> int:
    """Pixels."""
    return size[0] * size[1]


def search(model: Model, spec: ModelSpec, size: Size, end: float) -> Iterator[Cap]:
    """The caps of one size, as far as they are found until then."""
    alone = lockstep(model, spec, size, 1)
    caps, rates = dict.fromkeys(alone, 1), {kind: 1 / took for kind, took in alone.items()}
    growing, doubted = set(alone), set[str]()
    for canvases in (company for company in SIZES if company <= spec.max_batch):
        if not growing or time.perf_counter() > end:
            break
        try:
            together = lockstep(model, spec, size, canvases, kinds=growing)
        except OutOfMemory:
            break
        for kind in list(growing):
            rate = canvases / together[kind]
            if together[kind] > alone[kind] * COMPANY:
                growing.remove(kind)
            elif rate >= rates[kind] * WORTHWHILE ** math.log2(canvases / caps[kind]):
                caps[kind], rates[kind] = canvases, rate
                doubted.discard(kind)
            elif kind in doubted:
                growing.remove(kind)
            else:
                doubted.add(kind)  # a single bad measurement decides nothing
    for kind, canvases in caps.items():
        yield Cap(kind, *size, canvases, alone[kind])


def lockstep(
    model: Model,
    spec: ModelSpec,
    size: Size,
    canvases: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    kinds: Collection[str] = (),
) -> Seconds:
    """The shortest time of each kind of call, with so many canvases in it.

    `kinds`: those that matter; what comes after them is left out. All of them if none are named.
    """
    width, height = size
    base = Image(width, height, "RGB", bytes(3 * width * height))
    mask = Image(width, height, "L", b"\xff" * width * height)
    job = warm_up_job(
        *(model, spec, canvases), width=width, height=height, steps=steps, guidance=guidance
    )
    row = [Canvas(job, index, lambda *_: None) for index in range(canvases)]
    for canvas in row:
        canvas.start(model, [base][: job.inputs], mask if job.masked else None)
    try:
        seconds = timed(model, row, kinds)
    finally:
        for canvas in row:
            while canvas.waiting:
                canvas.throw(CanvasCancelled())
    for canvas in row:
        if isinstance(canvas.error, OutOfMemory):
            raise OutOfMemory(str(canvas.error))
        if canvas.error is not None and not isinstance(canvas.error, CanvasCancelled):
            raise WarmUpFailed(f"{type(canvas.error).__name__}: {canvas.error}")
    return seconds


def timed(model: Model, row: Sequence[Canvas], kinds: Collection[str]) -> Seconds:
    """Run equal canvases until all that matters is timed, always all together."""
    seconds: dict[str, float] = {}
    while calls := [canvas.waiting for canvas in row if canvas.waiting]:
        if kinds and calls[0].kind not in kinds and seconds.keys() >= set(kinds):
            break
        if calls[0].key is None:
            calls = calls[:1]
        model.settle()
        began = time.perf_counter()
        results, why = run(calls)
        model.settle()
        if results is None:
            if len(row) > 1:
                raise OutOfMemory(why)
            row[0].throw(OutOfMemory(why))  # which may know another way
            continue
        took = (time.perf_counter() - began) * len(row) / len(calls)
        if calls[0].ready is None:  # else it was a wait
            seconds[calls[0].kind] = min(took, seconds.get(calls[0].kind, took))
        for canvas, result in zip([c for c in row if c.waiting], results, strict=False):
            canvas.answer(result)
    return seconds


def run(calls: Sequence[Call]) -> tuple[Sequence[Any] | None, str]:
    """The results of calls that share a forward, or None and why there was no room for them.

    Not the exception: what did not fit would live as long as it does.
    """
    try:
        return calls[0].run(calls), ""
    except OutOfMemory as error:
        return None, str(error)


def warm_up_job(model: Model, spec: ModelSpec, canvases: int, **how: Any) -> Job:
    """A job for so many pictures, of the plainest task that the model does."""
    task = model.tasks[0]
    return Job(
        id="warm-up",
        model=spec.id,
        task=task,
        prompt="a red circle on a blue background",
        seeds=tuple(range(canvases)),
        inputs=0 if task == "generate" else 1,
        masked=task == "inpaint",
        enlarge=bool(spec.enlarger),
        **how,
    )
