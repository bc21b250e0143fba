"""The pump between the backlog and the workers: canvases out, events back to whoever waits.

Every submitted canvas ends in exactly one of Finished, Failed, Cancelled, whatever dies meanwhile.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.contract import (
    AnyEvent,
    Attach,
    Cancel,
    Cancelled,
    Ending,
    Failed,
    Fault,
    Finished,
    Image,
    Job,
    Loaded,
    LoadFailed,
    Paint,
    Release,
    Step,
)
from server.errors import ModelFailed, Overloaded, ShuttingDown, Unprocessable
from server.jobs.backlog import Backlog, Canvas
from server.jobs.engine import Engine

RETRY_SECONDS = 5  # what a client that was turned away is told to wait
TRIES = 2  # a canvas whose worker dies twice has failed


class Ticket:
    """A submitted job: iterate over its events, the last of which ends its last canvas.

    Keeps only the newest step of each canvas for a reader that is slow, and every ending, each
    after the canvas's last step.
    """

    def __init__(
        self, job: Job, inputs: Sequence[Image], mask: Image | None, submitted: float
    ) -> None:
        self.job = job
        self.inputs = inputs
        self.mask = mask
        self.submitted = submitted
        self.open = set(range(len(job.seeds)))  # canvases that have not ended
        self.cancelled = False
        self.dealt: float | None = None  # when its first canvas left the backlog, by the clock
        self._steps: dict[int, Step] = {}
        self._due: deque[Step | Ending] = deque()
        self._news = asyncio.Event()

    @property
    def queued(self) -> float:
        """Seconds that its first canvas waited; 0 if it never was dealt."""
        return (self.dealt or self.submitted) - self.submitted

    def step(self, event: Step) -> None:
        """Note progress of a canvas; its previous step, if unread, is forgotten."""
        if event.index in self.open:
            self._steps[event.index] = event
            self._news.set()

    def end(self, event: Ending) -> None:
        """Note the end of a canvas. A second end of the same canvas is a bug."""
        self.open.remove(event.index)
        if last := self._steps.pop(event.index, None):
            self._due.append(last)
        self._due.append(event)
        self._news.set()

    def __aiter__(self) -> "Ticket":
        return self

    async def __anext__(self) -> Step | Ending:
        while True:
            if self._due:
                return self._due.popleft()
            if self._steps:
                return self._steps.pop(next(iter(self._steps)))
            if not self.open:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()


@dataclass(slots=True)
class Desk:
    """What one engine has from us."""

    live: dict[tuple[str, int], Canvas] = field(default_factory=dict[tuple[str, int], Canvas])
    attached: set[str] = field(default_factory=set[str])  # jobs whose images it holds
    loading: str | None = None  # the model that what it was sent last makes it load


class Dispatch:
    """Admits jobs, deals their canvases to the engines, and routes what comes back."""

    def __init__(
        self,
        engines: Sequence[Engine],
        backlog: Backlog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._engines = list(engines)
        self._backlog = backlog
        self._desks = {engine.name: Desk() for engine in engines}
        self._tickets: dict[str, Ticket] = {}
        self._tries: dict[tuple[str, int], int] = {}
        self._closing = False
        self._news = asyncio.Event()

    @property
    def engines(self) -> Sequence[Engine]:
        """The workers."""
        return self._engines

    @property
    def waiting(self) -> int:
        """Canvases in the backlog."""
        return len(self._backlog)

    @property
    def live(self) -> int:
        """Canvases being painted."""
        return sum(len(desk.live) for desk in self._desks.values())

    @property
    def waiting_by_model(self) -> Counter[str]:
        """Canvases in the backlog, of each model."""
        return self._backlog.by_model

    @property
    def live_by_model(self) -> Counter[str]:
        """Canvases being painted, of each model."""
        desks = self._desks.values()
        return Counter(canvas.job.model for desk in desks for canvas in desk.live.values())

    async def change(self) -> None:
        """Wait until a worker says something, or is gone."""
        self._news.clear()
        await self._news.wait()

    async def run(self) -> None:
        """Keep the engines running until `close`."""
        async with asyncio.TaskGroup() as tasks:
            for engine in self._engines:
                tasks.create_task(engine.run(self))

    async def close(self) -> None:
        """Cancel what is left, and end the workers."""
        self._closing = True
        for ticket in list(self._tickets.values()):
            self.cancel(ticket)
        async with asyncio.TaskGroup() as tasks:
            for engine in self._engines:
                tasks.create_task(engine.stop())

    def expect(self, model: str, canvases: int) -> None:
        """Refuse what could not be submitted now, before any work is done for it.

        Raises:
            Overloaded, ModelFailed, ShuttingDown: as `submit`.
        """
        if self._closing:
            raise ShuttingDown("the server is shutting down", retry_after=RETRY_SECONDS)
        if reason := self._failure(model):
            raise ModelFailed(f"model {model} could not be loaded: {reason}", param="model")
        if not self._backlog.fits(canvases):
            waiting = len(self._backlog)
            raise Overloaded(f"{waiting} images are waiting already", retry_after=RETRY_SECONDS)

    def submit(
        self, job: Job, account: str, inputs: Sequence[Image] = (), mask: Image | None = None
    ) -> Ticket:
        """Take a job on.

        Raises:
            Overloaded: the backlog is full.
            ModelFailed: no worker could load its model.
            Unprocessable: the loaded weights cannot do its task.
            ShuttingDown: the server is about to end.
        """
        self.expect(job.model, len(job.seeds))
        self._refuse_task(job)
        ticket = self._tickets[job.id] = Ticket(job, inputs, mask, self._clock())
        self._backlog.push(job, account)
        self._deal_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Stop what has not ended of a job; its ticket is told as each canvas really stops."""
        ticket.cancelled = True
        job = ticket.job.id
        for index in self._backlog.drop(job):
            self._end(Cancelled(job, index))
        for engine in self._engines:
            for live_job, index in list(self._desks[engine.name].live):
                if live_job == job:
                    engine.send(Cancel(job, index))

    # -- Listener, called by the engines ----------------------------------------------------------

    def heard(self, engine: Engine, event: AnyEvent) -> None:
        self._news.set()
        match event:
            case Step(job):
                if ticket := self._tickets.get(job):
                    ticket.step(event)
            case Finished(job, index) | Cancelled(job, index) | Failed(job, index):
                if self._desks[engine.name].live.pop((job, index), None):
                    self._end(event)
                self._deal(engine)
            case LoadFailed(model):
                self._desks[engine.name].loading = None
                self._fail_waiting(model)
                self._deal(engine)
            case Loaded():
                self._desks[engine.name].loading = None
                self._deal(engine)
            case _:
                self._deal(engine)

    def lost(self, engine: Engine) -> None:
        self._news.set()
        desk = self._desks[engine.name]
        canvases, desk.live, desk.loading = list(desk.live.values()), {}, None
        desk.attached.clear()
        for canvas in canvases:
            job, index = canvas.job.id, canvas.index
            tries = self._tries[job, index] = self._tries.get((job, index), 0) + 1
            if self._tickets[job].cancelled:
                self._end(Cancelled(job, index))
            elif reason := self._failure(canvas.job.model):
                self._end(Failed(job, index, Fault("load_failed", reason)))
            elif tries < TRIES:
                self._backlog.put_back(canvas)
            else:
                fault = Fault("worker_died", f"its worker died {tries} times")
                self._end(Failed(job, index, fault))
        self._deal_all()

    # -- Dealing ----------------------------------------------------------------------------------

    def _deal_all(self) -> None:
        for engine in self._engines:
            self._deal(engine)

    def _deal(self, engine: Engine) -> None:
        desk = self._desks[engine.name]
        if not engine.canvases or any(key in self._tries for key in desk.live):
            return  # it is not there, or has a canvas that lost a worker and is painted alone
        there = {*engine.resident, desk.loading}
        if any(canvas.job.model not in there for canvas in desk.live.values()):
            return  # it waits at the worker for its model, which is loaded when the worker is empty
        free = engine.canvases - len(desk.live)
        resident = {desk.loading} if desk.loading else engine.resident
        for canvas in self._backlog.take(free, len(desk.live), engine.offered, resident):
            if canvas.job.model not in engine.resident:
                desk.loading = canvas.job.model
            self._send(engine, desk, canvas)

    def _send(self, engine: Engine, desk: Desk, canvas: Canvas) -> None:
        ticket = self._tickets[canvas.job.id]
        if ticket.dealt is None:
            ticket.dealt = self._clock()
        if canvas.job.id not in desk.attached:
            desk.attached.add(canvas.job.id)
            for index, image in enumerate(ticket.inputs):
                engine.send(Attach(canvas.job.id, index, "input", image))
            if ticket.mask is not None:
                engine.send(Attach(canvas.job.id, 0, "mask", ticket.mask))
        desk.live[canvas.job.id, canvas.index] = canvas
        engine.send(Paint(canvas.job, canvas.index))

    def _end(self, event: Ending) -> None:
        ticket = self._tickets[event.job]
        ticket.end(event)
        self._tries.pop((event.job, event.index), None)
        if ticket.open:
            return
        del self._tickets[event.job]
        for engine in self._engines:
            attached = self._desks[engine.name].attached
            if event.job in attached:
                attached.remove(event.job)
                engine.send(Release(event.job))

    # -- What cannot be served --------------------------------------------------------------------

    def _refuse_task(self, job: Job) -> None:
        for engine in self._engines:
            tasks = engine.models.get(job.model)
            if tasks is not None and job.task not in tasks:
                able = ", ".join(tasks)
                message = f"model {job.model} does not do the task {job.task}; it does: {able}"
                raise Unprocessable(message, param="model")

    def _failure(self, model: str) -> str | None:
        """Why no engine can serve a model; None while one might."""
        reasons = [engine.failures.get(model) for engine in self._engines]
        return reasons[0] if all(reasons) else None

    def _fail_waiting(self, model: str) -> None:
        if reason := self._failure(model):
            for job in self._backlog.jobs_of(model):
                for index in self._backlog.drop(job):
                    self._end(Failed(job, index, Fault("load_failed", reason)))
