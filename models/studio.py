"""The step loop: canvases advance together, one shared forward at a time.

A tick looks at what the paused canvases are waiting for, puts calls that may share a forward
together, runs one such group and resumes its canvases. Requests therefore join, leave and are
cancelled at step boundaries. Knows nothing of torch, of processes or of sockets.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from models.canvas import (
    BadJob,
    Call,
    Canvas,
    CanvasCancelled,
    DeviceLost,
    Model,
    NotFinite,
    OutOfMemory,
    Unloadable,
)
from models.contract import (
    AnyEvent,
    Cancelled,
    Failed,
    Fault,
    FaultKind,
    Finished,
    Image,
    Job,
    Step,
)

FAULTS: Mapping[type[BaseException], FaultKind] = {
    BadJob: "bad_job",
    Unloadable: "load_failed",
    NotFinite: "not_finite",
    OutOfMemory: "out_of_memory",
    MemoryError: "out_of_memory",
}


PATIENCE = 2  # ticks after which a canvas is as urgent as one with a step less to do


class Studio:
    """Paints any number of canvases at once; `emit` receives every event, in order."""

    def __init__(self, emit: Callable[[AnyEvent], None]) -> None:
        self._emit = emit
        self._canvases: dict[tuple[str, int], Canvas] = {}
        # Canvases per call by the area of their pictures; by model id and kind.
        self._caps: dict[tuple[str, str], dict[int, int]] = {}
        self._fits: dict[Hashable, int] = {}  # less than the cap, where memory ran out before
        self._ticks = 0

    def __len__(self) -> int:
        """Live canvases."""
        return len(self._canvases)

    def cap(self, model: str, kind: str, canvases: int, area: int = 0) -> None:
        """Let a model's calls of a kind hold this many canvases at the most; 1 unless told.

        It holds for pictures of so many pixels, for smaller ones unless they have a cap of their
        own, and where there is none for larger ones, for those too.
        """
        self._caps.setdefault((model, kind), {})[area] = canvases

    def start(
        self, model: Model, job: Job, index: int, inputs: Sequence[Image], mask: Image | None
    ) -> None:
        """Put a canvas up and run it to its first stop."""
        canvas = Canvas(job, index, self._step, self._ticks)
        self._canvases[job.id, index] = canvas
        canvas.start(model, inputs, mask)
        self._settle(canvas)

    def cancel(self, job: str, index: int) -> None:
        """Stop a canvas where it is. Unknown canvases have ended already and are left in peace."""
        if canvas := self._canvases.get((job, index)):
            self._throw(canvas, CanvasCancelled())

    def close(self) -> None:
        """Cancel everything, so that no thread stays behind."""
        for job, index in list(self._canvases):
            self.cancel(job, index)

    def tick(self) -> str:
        """Run the most urgent group of calls and resume its canvases; the calls' kind, empty if
        there were none.

        Raises:
            DeviceLost: the process is of no further use.
        """
        group = self._choose()
        call = group[0].waiting if group else None
        if call is None:
            return ""
        self._ticks += 1
        self._advance(group)
        return call.kind

    def _choose(self) -> list[Canvas]:
        """The group whose most urgent canvas is the most urgent of all, cut to its cap."""
        groups: dict[Hashable, list[Canvas]] = {}
        for canvas in sorted(self._canvases.values(), key=turn):
            groups.setdefault(group_key(canvas), []).append(canvas)
        if not groups:
            return []
        key, group = next(iter(groups.items()))
        return places(group, self._fits.get(key, self._cap(group)))

    def _cap(self, group: Sequence[Canvas]) -> int:
        """That of the nearest size which is not smaller, or else of the largest."""
        call = group[0].waiting
        assert call is not None
        caps = self._caps.get((group[0].job.model, call.kind), {})
        area = max(canvas.job.width * canvas.job.height for canvas in group)
        larger = [measured for measured in caps if measured >= area]
        return caps[min(larger) if larger else max(caps)] if caps else 1

    def _advance(self, group: list[Canvas]) -> None:
        calls = [canvas.waiting for canvas in group if canvas.waiting]
        results, fault = attempt(calls)
        if results is None and fault is not None and fault[0] is OutOfMemory and len(group) > 1:
            middle = len(group) // 2
            self._fits[group_key(group[0])] = middle
            self._advance(group[:middle])
            self._advance(group[middle:])
            return
        for position, canvas in enumerate(group):
            if results is not None:
                canvas.answer(results[position])
                self._settle(canvas)
            elif fault is not None:
                self._throw(canvas, fault[0](fault[1]))  # a fresh one each: see `attempt`

    def _throw(self, canvas: Canvas, error: BaseException) -> None:
        canvas.throw(error)
        self._settle(canvas)

    def _settle(self, canvas: Canvas) -> None:
        """Report a canvas that has ended, and forget it."""
        if canvas.waiting is not None:
            return
        if isinstance(canvas.error, DeviceLost):
            raise canvas.error
        job, index = canvas.job.id, canvas.index
        del self._canvases[job, index]
        if canvas.image is not None:
            seconds = time.perf_counter() - canvas.started
            self._emit(Finished(job, index, canvas.image, seconds, tuple(canvas.notes)))
        elif isinstance(canvas.error, CanvasCancelled):
            self._emit(Cancelled(job, index))
        else:
            self._emit(Failed(job, index, fault_of(canvas.error)))

    def _step(self, canvas: Canvas, done: int, of: int, preview: Image | None) -> None:
        self._emit(Step(canvas.job.id, canvas.index, done, of, preview))


def turn(canvas: Canvas) -> tuple[bool, bool, float]:
    """What can go on at once goes ahead of what would wait; what has no step left, ahead of what
    has, so that its place in the forwards goes to another; and then the more urgent."""
    call = canvas.waiting
    assert call is not None
    waits = call.ready is not None and not call.ready()
    return waits, canvas.steps_left > 0, urgency(canvas)


def urgency(canvas: Canvas) -> float:
    """The fewest steps left first, but nobody is overtaken by what arrives PATIENCE times as many
    ticks later."""
    return canvas.arrived / PATIENCE + canvas.steps_left


def places(group: list[Canvas], cap: int) -> list[Canvas]:
    """Who of a group, ordered by urgency, goes: the most urgent, and the one with most left.

    Without the latter the long ones would be left over, to be finished without company.
    """
    if len(group) <= cap or cap == 1:
        return group[:cap]
    return [*group[: cap - 1], max(group[cap - 1 :], key=lambda canvas: canvas.steps_left)]


def group_key(canvas: Canvas) -> Hashable:
    """Canvases with equal keys may share a forward."""
    call = canvas.waiting
    assert call is not None
    if call.key is None or canvas.job.strict:
        return (canvas.job.id, canvas.index)
    return (canvas.job.model, call.key)


Broken = tuple[type[BaseException], str]


def attempt(calls: Sequence[Call]) -> tuple[Sequence[Any] | None, Broken | None]:
    """Run calls that share a forward; give their results, or the class and words of what broke.

    Not the exception itself: its traceback keeps the activations of the whole group alive, so each
    canvas gets a new one, made when this frame is gone.
    """
    try:
        return calls[0].run(calls), None
    except OutOfMemory as error:
        return None, (OutOfMemory, str(error))
    except Exception as error:
        return None, (RuntimeError, f"{type(error).__name__}: {error}")


def fault_of(error: BaseException | None) -> Fault:
    """What broke, in the contract's words."""
    kind: FaultKind = "internal"
    for cls, named in FAULTS.items():
        if isinstance(error, cls):
            kind = named
    return Fault(kind, f"{type(error).__name__}: {error}")
