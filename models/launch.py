"""How a worker process starts; imports nothing heavy, so that a server may import it.

Workers are forked from a forkserver that has imported their families already and never touches
CUDA: half a second instead of four, and a crash costs only that.
"""

import contextlib
import importlib
import multiprocessing
import os
import socket
import sys
import types
from collections.abc import Generator, Iterable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from models.contract import WorkerSpec
from models.families import MODULES, TORCHLESS

# Set before torch is imported anywhere: the forkserver inherits them, and the workers from it.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # a mistyped path must not become a download
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",  # its threads do not survive a fork
    "MALLOC_ARENA_MAX": "2",  # glibc's arenas per thread would grow with every canvas
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for CUDA must not initialise it
}


def prepare(family_names: Iterable[str], threads: int, compiled: Path | None = None) -> None:
    """Choose what the forkserver preloads. To be called once, before the first `start`.

    Args:
        compiled: where what torch compiles is kept for the next time; a folder that nobody else
            may write to, for what lies there is run.

    Raises:
        KeyError: no such family.
    """
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(compiled)} if compiled else {}
    wanted = ENVIRONMENT | kept
    os.environ.update({name: os.environ.get(name, value) for name, value in wanted.items()})
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    names = set(family_names)
    modules = ["models.worker", *sorted(MODULES[name] for name in names)]
    if not names <= TORCHLESS:
        modules.insert(0, "models.vision")
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)


def start(spec: WorkerSpec) -> tuple[ForkServerProcess, socket.socket]:
    """Start a worker; return its process and our end of its connection. Blocks while preloading."""
    ours, theirs = socket.socketpair()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=run, args=(spec, theirs), name=spec.name, daemon=True)
    try:
        with bare_main():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()  # or the worker's death would never be seen at our end
    return process, ours


@contextlib.contextmanager
def bare_main() -> Generator[None]:
    """Hide the main module meanwhile: a child would run it again, and it is the server's."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def run(spec: WorkerSpec, connection: socket.socket) -> None:
    """What the forked process does."""
    if gpu := spec.device.partition(":")[2]:
        # Before CUDA is touched: the process sees this GPU alone, so no thread can pick another.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        index = int(gpu)
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if index < len(visible) > 1 else gpu
    with contextlib.closing(connection):
        importlib.import_module("models.worker").main(spec, connection)
