"""One image being painted: a plain function that can be paused in the middle, from outside.

A canvas runs `Model.paint` on a thread of its own, which moves only while it holds the baton, so
that exactly one canvas, or the studio, executes at any time: pipelines, schedulers and tokenizers
are not thread-safe and never meet. Knows nothing of torch.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.contract import Image, Job, Task


class CanvasCancelled(BaseException):
    """Raised inside a cancelled canvas; a BaseException, so that no library swallows it."""


class OutOfMemory(Exception):
    """A forward did not fit the device's memory. Fewer canvases at once may."""


class NotFinite(Exception):
    """The picture came out as NaN or infinity."""


class DeviceLost(BaseException):
    """The device answers nothing but errors until its process is replaced."""


class Unloadable(Exception):
    """A model cannot be loaded; the text says why to whoever set it up."""


class BadJob(Exception):
    """The job asks for what this model cannot do; intake should have refused it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a canvas stops for: work on weights that all canvases share.

    Calls with equal keys may share a forward; `None` shares with nobody. `run` takes such calls and
    returns one result for each. `kind` tells denoising from decoding and the like: how many pay at
    once is another matter for each. One that has `ready` is no work, but waits for the device until
    that is true; others go first.
    """

    kind: str
    key: Hashable
    run: "Callable[[Sequence[Call]], Sequence[Any]]"
    arguments: Any
    ready: "Callable[[], bool] | None" = None


class Easel(Protocol):
    """What a model sees of its canvas."""

    def ask(self, call: Call) -> Any:
        """Stop here; return the call's result, or raise what it raised.

        Raises:
            CanvasCancelled: the canvas is to end now.
        """
        ...

    def step(self, done: int, of: int, preview: Callable[[], Image] | None = None) -> None:
        """Report progress. `preview` is called only when a preview is due."""
        ...

    def note(self, text: str) -> None:
        """Say what of the job was not honoured."""
        ...


class Model(Protocol):
    """Weights plus their family: paints one image at a time, asking the easel for every forward."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can do, the plainest first."""
        ...

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        """Paint image `index` of the job at exactly the job's size."""
        ...

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        ...

    def settle(self) -> None:
        """Wait until the device has done all it was given; for measuring."""
        ...


def _shut() -> threading.Lock:
    """A gate that one thread opens by `release` and another shuts again by `acquire`."""
    gate = threading.Lock()  # half the cost of a semaphore, which is written in Python
    gate.acquire()
    return gate


class Baton:
    """A thread that runs only between `resume` and its next `pause`."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._go = _shut()
        self._back = _shut()
        self._started = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._main,), daemon=True)

    def _main(self) -> None:
        self._go.acquire()
        try:
            self._run()
        finally:
            self._back.release()

    def resume(self) -> None:
        """Hand the baton over; return when the thread pauses or ends."""
        if not self._started:
            self._started = True
            self._thread.start()
        self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        """From within the thread: hand the baton back until the next `resume`."""
        self._back.release()
        self._go.acquire()


@dataclass(slots=True, weakref_slot=True)
class Canvas:
    """A painting. `waiting` is the call it stopped for; None when it has ended."""

    job: Job
    index: int
    on_step: "Callable[[Canvas, int, int, Image | None], None]"
    arrived: int = 0  # the studio's tick at which it was put up
    waiting: Call | None = None
    image: Image | None = None
    error: BaseException | None = None
    steps_left: int = 0
    notes: list[str] = field(default_factory=list[str])
    started: float = field(default_factory=time.perf_counter)
    _baton: Baton | None = None
    _answer: Any = None
    _raise: BaseException | None = None

    def start(self, model: Model, inputs: Sequence[Image], mask: Image | None) -> None:
        """Run up to the first call."""
        self.steps_left = self.job.steps
        baton = self._baton = Baton(lambda: self._paint(model, inputs, mask))
        baton.resume()

    def answer(self, result: Any) -> None:
        """Give the awaited result and run up to the next call."""
        self._continue(result, None)

    def throw(self, error: BaseException) -> None:
        """Raise at the awaited call and run up to the next one, or to the end."""
        self._continue(None, error)

    def _continue(self, result: Any, error: BaseException | None) -> None:
        assert self._baton is not None
        assert self.waiting is not None, "not paused: this is a bug"
        self.waiting = None
        self._answer, self._raise = result, error
        baton = self._baton
        baton.resume()

    def _paint(self, model: Model, inputs: Sequence[Image], mask: Image | None) -> None:
        try:
            self.image = model.paint(self.job, self.index, inputs, mask, self)
        except BaseException as error:
            # Frames of the traceback hold tensors; only the words survive the canvas.
            self.error = error.with_traceback(None)
        self._baton = None  # it holds the canvas, and both would wait for the collector

    # -- Easel, called by the model from within ---------------------------------------------------

    def ask(self, call: Call) -> Any:
        assert self._baton is not None
        self.waiting = call
        self._baton.pause()
        answer, error = self._answer, self._raise
        self._answer = self._raise = None
        if error is not None:
            raise error
        return answer

    def step(self, done: int, of: int, preview: Callable[[], Image] | None = None) -> None:
        self.steps_left = of - done
        every = self.job.preview_every
        due = every > 0 and done % every == 0 and done < of
        self.on_step(self, done, of, preview() if preview and due else None)

    def note(self, text: str) -> None:
        self.notes.append(text)
