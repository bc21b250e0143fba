"""The worker process: commands in, events out, and a studio in between.

One thread reads the socket, the main thread paints; nothing else runs Python here, for every other
thread costs each step dearly. A lost connection means that the server is gone: the worker exits.
"""

import logging
import math
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import setproctitle

from models import collector, families, host, wire
from models.canvas import Model, Unloadable
from models.contract import (
    AnyCommand,
    AnyEvent,
    Attach,
    Cancel,
    Cancelled,
    Cap,
    Compiled,
    Describe,
    Failed,
    Fault,
    Image,
    Loaded,
    LoadFailed,
    Loading,
    ModelSpec,
    Paint,
    Ready,
    Release,
    Room,
    Step,
    Stop,
    WorkerSpec,
)
from models.residency import Residency
from models.studio import Studio
from models.warmup import rehearse, warm_up

log = logging.getLogger(__name__)

LONGEST_WAIT = 3600.0  # seconds between two looks at what is idle
PATIENCE_WITH_BROKEN = 30.0  # seconds in which a model that did not load is not tried again
LEAST_ROOM = 12  # canvases a worker takes on even when its forwards hold fewer: to choose among
SWITCH_SECONDS = 2e-4  # how long the reader may keep the painter waiting for the interpreter
RECEIVE_BYTES = 1 << 20


def main(spec: WorkerSpec, connection: socket.socket) -> None:
    """Run a worker until it is told to stop or the connection is lost."""
    spec = msgspec.structs.replace(spec, device=host.prepare(spec))
    setproctitle.setproctitle(f"limner worker {spec.device}")
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)  # they are the server's, which tells us to stop
    sys.setswitchinterval(SWITCH_SECONDS)
    collector.spare()
    Worker(spec, connection).run()


class Worker:
    """Obeys commands between the ticks of its studio."""

    def __init__(self, spec: WorkerSpec, connection: socket.socket) -> None:
        self._spec = spec
        self._connection = connection
        self._inbox: queue.SimpleQueue[AnyCommand] = queue.SimpleQueue()
        self._studio = Studio(self._emit)
        self._residency = Residency(
            spec.models,
            host.budget(spec),
            load=self._load,
            expect=lambda model: host.expected(model, spec.device),
            give_back=lambda: host.give_back(spec),
            emit=self._emit,
        )
        self._postponed: list[Paint] = []  # for models that are loaded when the studio is empty
        self._attached: dict[str, dict[tuple[str, int], Image]] = {}
        self._used: set[str] = set()  # models painted with since the studio was empty
        self._caps: dict[str, Sequence[Cap]] = {}  # by model, measured when first loaded
        self._compilations = host.Compilations(spec)
        self._late = 0  # of those, what was told of
        self._unsent = bytearray()
        self._most = LEAST_ROOM
        self._broken: dict[str, float] = {}  # models that did not load, and when
        self._open = False  # whether room was told
        self._stopping = False

    def run(self) -> None:
        """Load what is to be loaded ahead, then paint until `Stop`."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._emit(Ready(self._spec.device))
        self._preload()
        self._emit(Room(self._most))
        self._open = True
        while not self._stopping:
            self._obey_waiting()
            self._studio.tick()
            self._send()
            if (late := self._compilations.late()) > self._late:
                self._late = late
                self._emit(Compiled(late))
        self._studio.close()

    def _read(self) -> None:
        unframer = wire.commands()
        try:
            while data := self._connection.recv(RECEIVE_BYTES):
                for command in unframer.feed(data):
                    self._stopping |= isinstance(command, Stop)
                    self._inbox.put(command)
        except ConnectionError:
            pass  # as good as the end
        finally:
            os._exit(0)  # nobody is left to paint for, not even if a forward is under way

    def _emit(self, event: AnyEvent) -> None:
        """Tell the server; of a step at the end of the tick, for each message wakes it."""
        self._unsent += wire.frame(event)
        if not isinstance(event, Step):
            self._send()

    def _send(self) -> None:
        if self._unsent:
            self._connection.sendall(self._unsent)
            self._unsent.clear()

    def _obey_waiting(self) -> None:
        """Take every command that is there; wait for one while there is nothing to paint."""
        while not self._stopping:
            if not len(self._studio):
                self._rest()
            idle = not len(self._studio)
            try:
                patience = min(self._residency.patience() or LONGEST_WAIT, LONGEST_WAIT)
                self._obey(self._inbox.get(block=idle, timeout=patience))
            except queue.Empty:
                if not idle:
                    return

    def _rest(self) -> None:
        """The studio is empty: give up what nobody needs, start what waited for this."""
        self._residency.touch(self._used)
        self._used.clear()
        if self._inbox.empty() and not self._postponed:
            self._residency.expire()
        waiting, self._postponed = self._postponed, []
        for paint in waiting:
            self._paint(paint)

    def _obey(self, command: AnyCommand) -> None:
        match command:
            case Paint():
                self._paint(command)
            case Cancel(job, index):
                self._cancel(job, index)
            case Attach(job, index, role, image):
                self._attached.setdefault(job, {})[role, index] = image
            case Release(job):
                self._attached.pop(job, None)
            case Describe(job):
                self._emit(host.describe(job, self._spec, self._residency.models))
            case Stop():
                self._stopping = True
            case _:
                why = f"{type(command).__name__} is not set up on this worker"
                self._emit(Failed(command.job, 0, Fault("not_configured", why)))

    def _paint(self, command: Paint) -> None:
        job, index = command.job, command.index
        if job.model not in self._residency and len(self._studio):
            self._postponed.append(command)
            return
        model = self._model(job.model)
        if model is None:
            self._emit(Failed(job.id, index, Fault("load_failed", f"{job.model} is not loaded")))
            return
        attached = self._attached.get(job.id, {})
        inputs = [attached["input", i] for i in range(job.inputs)]
        mask = attached["mask", 0] if job.masked else None
        self._used.add(job.model)
        self._studio.start(model, job, index, inputs, mask)

    def _cancel(self, job: str, index: int) -> None:
        for paint in self._postponed:
            if (paint.job.id, paint.index) == (job, index):
                self._postponed.remove(paint)
                self._emit(Cancelled(job, index))
                return
        self._studio.cancel(job, index)

    # -- Models -----------------------------------------------------------------------------------

    def _preload(self) -> None:
        """Load what is to be loaded ahead; where nothing comes of it, the first that will."""
        ahead = [model for model in self._spec.models if model.preload or model.pinned]
        for model in ahead:
            if not self._stopping:
                self._model(model.id)
        for model in self._spec.models:
            if self._residency.models or self._stopping:
                return
            if model not in ahead:
                self._model(model.id)

    def _model(self, name: str) -> Model | None:
        """The model, loaded if need be; None if it cannot be, which is told."""
        if time.monotonic() - self._broken.get(name, -math.inf) < PATIENCE_WITH_BROKEN:
            return None
        try:
            return self._residency.get(name)
        except Unloadable as error:
            self._emit(LoadFailed(name, str(error)))
        except Exception as error:  # a model that cannot be served must not take the others along
            log.exception("model %s failed to load", name)
            self._emit(LoadFailed(name, f"{type(error).__name__}: {error}"))
        self._broken[name] = time.monotonic()
        return None

    def _load(self, spec: ModelSpec) -> tuple[Model, AnyEvent]:
        """Load a model; the first time, paint with it, so that it is warm and its caps are known.

        Raises:
            OutOfMemory, Unloadable, or whatever a family's libraries raise.
        """
        began = time.perf_counter()

        def alive() -> None:
            self._emit(Loading(spec.id))

        alive()
        host.check_weights(spec, alive)
        model = families.loader(spec.family)(spec, self._spec.device)
        with self._compilations.of(spec, alive) as compiled:
            caps = self._warm(model, spec)
        took = time.perf_counter() - began
        news = Loaded(spec.id, model.tasks, took, tuple(caps), model.size, compiled())
        self._make_room(news.max_batch)
        return model, news

    def _warm(self, model: Model, spec: ModelSpec) -> Sequence[Cap]:
        """Make a model ready to paint; how many canvases its calls may hold."""
        if spec.id in self._caps:
            rehearse(model, spec)
        else:
            self._caps[spec.id] = warm_up(model, spec)
            for cap in self._caps[spec.id]:
                self._studio.cap(spec.id, cap.kind, cap.canvases, cap.width * cap.height)
        return self._caps[spec.id]

    def _make_room(self, canvases: int) -> None:
        """Take on as many at once as share a call."""
        if canvases > self._most:
            self._most = canvases
            if self._open:
                self._emit(Room(canvases))
