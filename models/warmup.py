"""The first pictures of a model: they warm it up and tell how many canvases pay at once."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from models.canvas import Call, Canvas, CanvasCancelled, Model, OutOfMemory
from models.contract import Image, Job, ModelSpec

STEPS = 4
SIZES = (2, 3, 4, 6, 8, 12, 16)  # canvases per forward that are tried, in order
WORTHWHILE = 1.05  # times as many canvases per second as with fewer
COMPANY = 1.9  # times as long as alone that a call in company may take
PATIENCE = 10.0  # seconds; a device this slow gains nothing from larger forwards

Seconds = Mapping[str, float]  # of one call, by its kind


class WarmUpFailed(Exception):
    """The model loaded but cannot paint."""


def warm_up(model: Model, spec: ModelSpec) -> dict[str, int]:
    """Paint in ever larger company; for each kind of call, how many canvases it may hold.

    That many still raised throughput, and cost none of them twice its time alone.

    Raises:
        WarmUpFailed: a picture did not come out.
    """
    began = time.perf_counter()
    lockstep(model, spec, 1)  # the first is slow for reasons that do not come back
    alone = lockstep(model, spec, 1)
    caps, rates = dict.fromkeys(alone, 1), {kind: 1 / took for kind, took in alone.items()}
    growing = set(alone)
    for canvases in (size for size in SIZES if size <= spec.max_batch):
        if not growing or time.perf_counter() - began > PATIENCE:
            break
        try:
            together = lockstep(model, spec, canvases)
        except OutOfMemory:
            break
        for kind in list(growing):
            rate = canvases / together[kind]
            if rate >= rates[kind] * WORTHWHILE and together[kind] <= alone[kind] * COMPANY:
                caps[kind], rates[kind] = canvases, rate
            else:
                growing.remove(kind)
    return caps


def lockstep(model: Model, spec: ModelSpec, canvases: int) -> Seconds:
    """The shortest time of each kind of call, with so many canvases in it."""
    base = Image(spec.width, spec.height, "RGB", bytes(3 * spec.width * spec.height))
    mask = Image(spec.width, spec.height, "L", b"\xff" * spec.width * spec.height)
    job = warm_up_job(model, spec, canvases)
    row = [Canvas(job, index, lambda *_: None) for index in range(canvases)]
    for canvas in row:
        canvas.start(model, [base][: job.inputs], mask if job.masked else None)
    try:
        seconds = timed(model, row)
    finally:
        for canvas in row:
            while canvas.waiting:
                canvas.throw(CanvasCancelled())
    for canvas in row:
        if isinstance(canvas.error, OutOfMemory):
            raise OutOfMemory(str(canvas.error))
        if canvas.error is not None:
            raise WarmUpFailed(f"{type(canvas.error).__name__}: {canvas.error}")
    return seconds


def timed(model: Model, row: Sequence[Canvas]) -> Seconds:
    """Run equal canvases to their ends, always all together."""
    seconds: dict[str, float] = {}
    while calls := [canvas.waiting for canvas in row if canvas.waiting]:
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


def warm_up_job(model: Model, spec: ModelSpec, canvases: int) -> Job:
    """A job for so many pictures, of the plainest task that the model does."""
    task = model.tasks[0]
    return Job(
        id="warm-up",
        model=spec.id,
        task=task,
        prompt="a red circle on a blue background",
        width=spec.width,
        height=spec.height,
        steps=STEPS,
        guidance=4.0,
        seeds=tuple(range(canvases)),
        inputs=0 if task == "generate" else 1,
        masked=task == "inpaint",
    )
