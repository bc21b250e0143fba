"""A handle on one worker: start it, speak to it, notice its death, start it again.

`Engine` is the seam behind which a cluster may stand some day. Knows what messages are, but not
what becomes of them.
"""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Collection, Mapping
from multiprocessing.context import ForkServerProcess
from typing import Literal, Protocol, TypeAlias

from models import launch, wire
from models.contract import (
    AnyCommand,
    AnyEvent,
    Compiled,
    Evicted,
    Finished,
    Loaded,
    LoadFailed,
    Loading,
    Ready,
    Room,
    Stop,
    Task,
    WorkerSpec,
)

log = logging.getLogger(__name__)

State: TypeAlias = Literal["starting", "ready", "restarting", "stopped"]

STOP_SECONDS = 5.0  # a worker that does not stop in that time is killed
LAST_SECONDS = 1.0  # between the end of a worker's connection and its own
LONGEST_DELAY = 30.0  # seconds between two starts
RETRY_SECONDS = 60.0  # after which a model that failed when it was asked for may be asked again
LOAD_TRIES = 2  # workers that the loading of one model may end
FALSE_STARTS = 3  # after so many, those who wait are told
READ_BYTES = 1 << 20


class Listener(Protocol):
    """Who is told what a worker does."""

    def heard(self, engine: "Engine", event: AnyEvent) -> None:
        """An event came in."""
        ...

    def lost(self, engine: "Engine") -> None:
        """The worker is gone, and with it every canvas it had."""
        ...


class Engine(Protocol):
    """One worker as the dispatch sees it."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def device(self) -> str:
        """What it paints on; empty until it has told."""
        ...

    @property
    def canvases(self) -> int:
        """How many canvases it takes on at once; 0 while it takes none."""
        ...

    @property
    def offered(self) -> Collection[str]:
        """The models it can be asked for: all but those that failed to load."""
        ...

    @property
    def resident(self) -> Collection[str]:
        """Those that it has in memory."""
        ...

    @property
    def loading(self) -> str | None:
        """The one that it is loading."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of the weights of those it has loaded so far."""
        ...

    @property
    def models(self) -> dict[str, tuple[Task, ...]]:
        """The models it has loaded so far, and what each can do."""
        ...

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        """What it told of each of them when it loaded it last."""
        ...

    @property
    def restarts(self) -> int:
        """How often its process died."""
        ...

    @property
    def late_compilations(self) -> int:
        """Graphs that its processes compiled while no model was loaded."""
        ...

    @property
    def failures(self) -> dict[str, str]:
        """The models it could not load, and why."""
        ...

    def send(self, command: AnyCommand) -> None:
        """Queue a command; lost without a word when the worker is gone, which `lost` tells."""
        ...

    async def run(self, listener: Listener) -> None:
        """Keep a worker running until `stop`."""
        ...

    async def stop(self) -> None:
        """End the worker for good."""
        ...


class LocalEngine:
    """A worker process on this machine."""

    def __init__(
        self, spec: WorkerSpec, start_seconds: float, failures: Mapping[str, str] | None = None
    ) -> None:
        """`failures` are models that are known not to be there, and why."""
        self._spec = spec
        self._start_seconds = start_seconds
        self._process: ForkServerProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._deaths = 0  # since it last finished a canvas
        self._false_starts = 0  # deaths since it was last ready
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self.state: State = "starting"
        self.device = ""
        self.canvases = 0
        self.models: dict[str, tuple[Task, ...]] = {}
        self.sizes: dict[str, int] = {}
        self.loaded: dict[str, Loaded] = {}
        self.restarts = 0
        self.late_compilations = 0
        self._late_before = 0  # those of earlier processes
        self.resident: set[str] = set()
        self._absent = dict(failures or {})
        self._reported: dict[str, str] = {}  # models that this worker could not load
        self._loading: str | None = None
        self._killed_by: Counter[str] = Counter()  # models whose loading ended a worker
        self.failures: dict[str, str] = dict(self._absent)

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def offered(self) -> Collection[str]:
        return {model.id for model in self._spec.models} - self.failures.keys()

    @property
    def loading(self) -> str | None:
        return self._loading

    def send(self, command: AnyCommand) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(wire.frame(command))

    async def run(self, listener: Listener) -> None:
        try:
            while not self._stopping.is_set():
                self._false_starts += 1
                await self._one_life(listener)
                if not self._stopping.is_set():
                    self.state = "restarting"
                    self._give_up_hope(listener)
                    await self._pause_before_restart()
        finally:
            self.state = "stopped"
            self._over.set()

    async def stop(self) -> None:
        self._stopping.set()
        self.send(Stop())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), STOP_SECONDS)
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    async def _one_life(self, listener: Listener) -> None:
        try:
            self._process, connection = await asyncio.to_thread(launch.start, self._spec)
        except (OSError, EOFError):  # EOFError: the forkserver died, say of a broken library
            log.exception("worker %s could not be started", self.name)
            self._deaths += 1
            return
        try:
            await self._listen(connection, listener)
        finally:
            self._forget()
            await asyncio.shield(asyncio.to_thread(end, self._process))
        if not self._stopping.is_set():
            self._deaths += 1
            self.restarts += 1
            log.error("worker %s died (exit code %s)", self.name, self._process.exitcode)
        self._blame(listener)
        listener.lost(self)

    async def _listen(self, connection: socket.socket, listener: Listener) -> None:
        reader, self._writer = await asyncio.open_connection(sock=connection)
        if self._stopping.is_set():
            self.send(Stop())
        deadline = self._deadline()
        unframer = wire.events()
        try:
            while data := await reader.read(READ_BYTES):
                for event in unframer.feed(data):
                    self._note(event)
                    listener.heard(self, event)
                    deadline.cancel()
                    if not self.canvases or self._loading:
                        deadline = self._deadline()  # it gets on with loading
        except ConnectionError:
            pass  # as good as the end of the stream
        except wire.WireError:
            log.exception("worker %s speaks nonsense; it is replaced", self.name)
        finally:
            deadline.cancel()

    def _deadline(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._start_seconds, self._give_up)

    def _give_up(self) -> None:
        """The time to load is over: a worker that is still at it is replaced."""
        if self._process is None or self._stopping.is_set():
            return
        log.error(
            "worker %s: no sign of life for %g s (start_seconds), loading %s",
            *(self.name, self._start_seconds, self._loading or "its libraries"),
        )
        self._process.kill()

    def _note(self, event: AnyEvent) -> None:
        match event:
            case Ready(device):
                self.device = device
            case Room(canvases):
                self.canvases = canvases
                self.state = "ready"
                self._false_starts = 0
                self.failures = self._absent | self._reported
            case Loading(model):
                self._loading = model
            case Loaded(model, tasks, seconds, size=size):
                self._loading = None
                self._killed_by.pop(model, None)
                self.models[model] = tasks
                self.sizes[model] = size
                self.loaded[model] = event
                self.resident.add(model)
                self.failures.pop(model, None)
                gigabytes = size / 1e9
                log.info(
                    "%s loaded in %.1f s: %.2f GB, up to %d at once",
                    *(model, seconds, gigabytes, event.max_batch),
                )
            case Compiled(graphs):
                self.late_compilations = self._late_before + graphs
                log.warning("%d graphs were compiled late so far: somebody waited", graphs)
            case Evicted(model):
                self.resident.discard(model)
                log.info("%s is given up", model)
            case LoadFailed(model, reason):
                self._loading = None
                self._fail(model, reason)
                log.error("model %s cannot be served: %s", model, reason)
            case Finished():
                self._deaths = 0
            case _:
                pass

    def _fail(self, model: str, reason: str) -> None:
        """A model cannot be loaded; when others can be, it is tried again some time."""
        self.failures[model] = self._reported[model] = reason
        if self.state == "ready":
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._forgive, model)

    def _forgive(self, model: str) -> None:
        self._reported.pop(model, None)
        self.failures.pop(model, None)

    def _blame(self, listener: Listener) -> None:
        """A model whose loading keeps ending workers is not tried for a while."""
        model, self._loading = self._loading, None
        if model is None or self._stopping.is_set():
            return
        self._killed_by[model] += 1
        if self._killed_by[model] >= LOAD_TRIES:
            reason = f"its loading ended {self._killed_by[model]} workers"
            self._fail(model, reason)
            listener.heard(self, LoadFailed(model, reason))

    def _forget(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self.canvases = 0
        self._late_before = self.late_compilations
        self.models = {}
        self.sizes = {}
        self.loaded = {}
        self.resident = set()
        self._reported = {}

    def _give_up_hope(self, listener: Listener) -> None:
        """After some starts that came to nothing, say so to all who wait; still go on trying."""
        if self._false_starts < FALSE_STARTS:
            return
        for model in self._spec.models:
            reason = f"its worker died {self._false_starts} times before it was ready"
            self.failures[model.id] = reason
            listener.heard(self, LoadFailed(model.id, reason))

    async def _pause_before_restart(self) -> None:
        """None after the first death, then 1, 2, 4 … seconds while it dies without a picture."""
        delay = 0 if self._deaths <= 1 else min(2.0 ** (self._deaths - 2), LONGEST_DELAY)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay)


def end(process: ForkServerProcess) -> None:
    """Wait for a process whose connection is closed; kill it if it hangs nevertheless."""
    process.join(LAST_SECONDS)
    process.kill()
    process.join()
