"""The first pictures of a model: they warm it up and tell how many canvases pay at once."""

import time
from collections.abc import Iterator

from models.canvas import Model
from models.contract import AnyEvent, Failed, Image, Job, ModelSpec
from models.studio import Studio

STEPS = 3
WORTHWHILE = 1.05  # times as many images per second as with fewer canvases
PATIENCE = 10.0  # seconds; a device this slow gains nothing from larger forwards


class WarmUpFailed(Exception):
    """The model loaded but cannot paint."""


def warm_up(model: Model, spec: ModelSpec) -> int:
    """Paint 1, 1, 2, 4, … pictures at once; the largest number that still raised images per second.

    Raises:
        WarmUpFailed: a picture did not come out.
    """
    began = time.perf_counter()
    paint_together(model, spec, 1)  # the first is slow for reasons that do not come back
    best, rate = 1, 1 / paint_together(model, spec, 1)
    for canvases in doubling(2, spec.max_batch):
        if time.perf_counter() - began > PATIENCE:
            break
        measured = canvases / paint_together(model, spec, canvases)
        if measured < rate * WORTHWHILE:
            break
        best, rate = canvases, measured
    return best


def doubling(first: int, last: int) -> Iterator[int]:
    """first, 2·first, … and `last` itself."""
    while first < last:
        yield first
        first *= 2
    if last > 1:
        yield last


def paint_together(model: Model, spec: ModelSpec, canvases: int) -> float:
    """Seconds for so many pictures in shared forwards."""
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    studio.cap(spec.id, canvases)
    job = Job(
        id="warm-up",
        model=spec.id,
        task=model.tasks[0],
        prompt="a red circle on a blue background",
        width=spec.width,
        height=spec.height,
        steps=STEPS,
        guidance=4.0,
        seeds=tuple(range(canvases)),
    )
    base = Image(spec.width, spec.height, "RGB", bytes(3 * spec.width * spec.height))
    mask = Image(spec.width, spec.height, "L", b"\xff" * spec.width * spec.height)
    began = time.perf_counter()
    for index in range(canvases):
        studio.start(model, job, index, [base], mask)
    while len(studio):
        studio.tick()
    for event in events:
        if isinstance(event, Failed):
            raise WarmUpFailed(event.fault.detail)
    return time.perf_counter() - began
