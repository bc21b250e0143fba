"""The worker process: commands in, events out, and a studio in between.

One thread reads the socket, the main thread paints; nothing else runs Python here, for every other
thread costs each step dearly. A lost connection means that the server is gone: the worker exits.
"""

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time

import msgspec
import setproctitle

from models import families, wire
from models.canvas import Model, Unloadable
from models.contract import (
    AnyCommand,
    AnyEvent,
    Attach,
    Cancel,
    Describe,
    Described,
    Failed,
    Fault,
    Image,
    Job,
    Loaded,
    LoadFailed,
    ModelSpec,
    Paint,
    Ready,
    Release,
    Room,
    Stop,
    WorkerSpec,
)
from models.studio import Studio
from models.warmup import warm_up

log = logging.getLogger(__name__)

LEAST_ROOM = 4  # canvases a worker takes on even when its forwards hold fewer
SWITCH_SECONDS = 2e-4  # how long the reader may keep the painter waiting for the interpreter
RECEIVE_BYTES = 1 << 20


def main(spec: WorkerSpec, connection: socket.socket) -> None:
    """Run a worker until it is told to stop or the connection is lost."""
    spec = msgspec.structs.replace(spec, device=prepared_device(spec))
    setproctitle.setproctitle(f"limner worker {spec.device}")
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)  # they are the server's, which tells us to stop
    sys.setswitchinterval(SWITCH_SECONDS)
    Worker(spec, connection).run()


class Worker:
    """Obeys commands between the ticks of its studio."""

    def __init__(self, spec: WorkerSpec, connection: socket.socket) -> None:
        self._spec = spec
        self._connection = connection
        self._inbox: queue.SimpleQueue[AnyCommand] = queue.SimpleQueue()
        self._studio = Studio(self._emit)
        self._models: dict[str, Model] = {}
        self._attached: dict[str, dict[tuple[str, int], Image]] = {}
        self._most = LEAST_ROOM
        self._stopping = False

    def run(self) -> None:
        """Load the models, then paint until `Stop`."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._emit(Ready(self._spec.device))
        for model in self._spec.models:
            if not self._stopping:
                self._load(model)
        self._emit(Room(self._most))
        while not self._stopping:
            self._obey_waiting()
            self._studio.tick()
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
        self._connection.sendall(wire.frame(event))

    def _obey_waiting(self) -> None:
        """Take every command that is there; wait for one while there is nothing to paint."""
        while not self._stopping:
            try:
                self._obey(self._inbox.get(block=not len(self._studio)))
            except queue.Empty:
                return

    def _obey(self, command: AnyCommand) -> None:
        match command:
            case Paint(job, index):
                self._paint(job, index)
            case Cancel(job, index):
                self._studio.cancel(job, index)
            case Attach(job, index, role, image):
                self._attached.setdefault(job, {})[role, index] = image
            case Release(job):
                self._attached.pop(job, None)
            case Describe(job):
                self._emit(describe(job, self._spec.device, tuple(self._models)))
            case Stop():
                self._stopping = True
            case _:
                why = f"{type(command).__name__} is not set up on this worker"
                self._emit(Failed(command.job, 0, Fault("not_configured", why)))

    def _paint(self, job: Job, index: int) -> None:
        model = self._models.get(job.model)
        if model is None:
            self._emit(Failed(job.id, index, Fault("load_failed", f"{job.model} is not loaded")))
            return
        attached = self._attached.get(job.id, {})
        inputs = [attached["input", i] for i in range(job.inputs)]
        mask = attached["mask", 0] if job.masked else None
        self._studio.start(model, job, index, inputs, mask)

    def _load(self, spec: ModelSpec) -> None:
        """Load a model and paint with it once, so that the first request finds it warm."""
        began = time.perf_counter()
        try:
            model = families.loader(spec.family)(spec, self._spec.device)
            caps = warm_up(model, spec)
        except Unloadable as error:
            self._emit(LoadFailed(spec.id, str(error)))
            return
        except Exception as error:  # a model that cannot be served must not take the others along
            log.exception("model %s failed to load", spec.id)
            self._emit(LoadFailed(spec.id, f"{type(error).__name__}: {error}"))
            return
        self._models[spec.id] = model
        for kind, canvases in caps.items():
            self._studio.cap(spec.id, kind, canvases)
        most = max(caps.values())
        self._most = max(self._most, most)
        self._emit(Loaded(spec.id, model.tasks, time.perf_counter() - began, most))


def prepared_device(spec: WorkerSpec) -> str:
    """The device's full name, its threads set; "cpu" on a worker that does without torch."""
    if families.TORCHLESS.issuperset(model.family for model in spec.models):
        return "cpu"
    import torch

    from models import device

    if spec.threads:
        torch.set_num_threads(spec.threads)
    try:
        return str(device.choose(spec.device))
    except Unloadable:
        return spec.device  # loading fails on it, and says why


def describe(job: str, device_name: str, models: tuple[str, ...]) -> AnyEvent:
    """What the device is; `not_configured` on a worker that does without torch."""
    try:
        from models import device
    except ImportError as error:
        return Failed(job, 0, Fault("not_configured", str(error)))
    target = device.choose(device_name)
    memory = device.memory(target)
    return Described(job, str(target), device.name(target), memory.total, memory.free, models)
