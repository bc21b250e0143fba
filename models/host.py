"""What a worker has to ask of its device. Imports torch only if a model of the worker needs it."""

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path

from models import families, manifest, weights
from models.canvas import Unloadable
from models.contract import AnyEvent, Described, Failed, Fault, ModelSpec, WorkerSpec

SHARE_OF_GPU = 0.85  # of its memory, for weights; the rest is for what they compute
SHARE_OF_RAM = 0.6  # a CPU's memory is other programs' too
PULSE_SECONDS = 1.0  # between two signs of life while files are hashed
UNLIMITED = 1 << 62  # bytes
# The folders of what is offloaded.
AWAY = {"none": (), "text": ("text_encoder",), "all": ("text_encoder", "unet", "transformer")}


def torchless(spec: WorkerSpec) -> bool:
    """Whether none of the models needs torch."""
    return families.TORCHLESS.issuperset(model.family for model in spec.models)


def prepare(spec: WorkerSpec) -> str:
    """Set torch's threads; return the device's full name, "cpu" where torch is not needed."""
    if torchless(spec):
        return "cpu"
    import torch

    from models import device

    if spec.threads:
        torch.set_num_threads(spec.threads)
    try:
        return str(device.choose(spec.device))
    except Unloadable:
        return spec.device  # loading fails on it, and says why


def budget(spec: WorkerSpec) -> int:
    """Bytes that the weights of all models together may take."""
    if spec.memory or torchless(spec):
        return spec.memory or UNLIMITED
    from models import device

    try:
        target = device.choose(spec.device)
    except Unloadable:
        return UNLIMITED
    share = SHARE_OF_GPU if target.type == "cuda" else SHARE_OF_RAM
    return int(device.memory(target).total * share)


def expected(model: ModelSpec, device_name: str) -> int:
    """Bytes that a model's weights will take, told by its files; 0 where that cannot be told."""
    if model.family in families.TORCHLESS:
        return 0
    from models import device

    dtype = device.dtype_for(model.dtype, device.choose(device_name))
    away = AWAY[model.offload]
    base = Path(model.base) if model.base else None
    size = weights.numbers(Path(model.path), base, without=away) * dtype.itemsize
    if model.tuning.fp8 and "transformer" not in away:
        size -= weights.spared(Path(model.path), base, dtype.itemsize)
    if model.enlarger:
        size += weights.in_file(Path(model.enlarger)) * dtype.itemsize
    return size


def check_weights(model: ModelSpec, alive: Callable[[], None]) -> None:
    """See that a model's weights are those that its manifest knows.

    Hashes only what was touched since, and calls `alive` about every second meanwhile.

    Raises:
        Unloadable: they are not, or the manifest cannot be read.
    """
    last = time.monotonic()

    def note(count: int) -> None:
        nonlocal last
        if time.monotonic() - last > PULSE_SECONDS:
            last = time.monotonic()
            alive()

    for place, known in model.manifests:
        try:
            wrong = manifest.changes(Path(place), manifest.load(Path(known)), note)
        except (manifest.ManifestError, OSError) as error:
            raise Unloadable(str(error)) from None
        if wrong:
            raise Unloadable(f"{place}: its weights were changed: {manifest.summary(wrong)}")


def give_back(spec: WorkerSpec) -> None:
    """Return memory that nothing uses any more to the device."""
    if not torchless(spec):
        from models import device

        device.give_back()


def describe(job: str, spec: WorkerSpec, models: tuple[str, ...]) -> AnyEvent:
    """What the device is; `not_configured` on a worker that does without torch."""
    if torchless(spec):
        return Failed(job, 0, Fault("not_configured", "this worker does without torch"))
    from models import device

    target = device.choose(spec.device)
    memory = device.memory(target)
    return Described(job, str(target), device.name(target), memory.total, memory.free, models)


class Compilations:
    """What a worker compiles: only while a model is loaded, and counted otherwise."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._any = any(model.tuning.compile for model in spec.models) and not torchless(spec)
        if self._any:
            from models import compilation

            compilation.seal()
        self._in_time = self._all()  # those that were nobody's to wait for

    @contextlib.contextmanager
    def of(self, model: ModelSpec, alive: Callable[[], None]) -> Generator[Callable[[], int]]:
        """Compile what the model meets meanwhile; tells how many graphs that were.

        Each takes seconds, so `alive` is called as it begins.
        """
        before = self._all()
        if not (self._any and model.tuning.compile):
            yield lambda: 0
            return
        from models import compilation

        try:
            with compilation.unsealed(alive):
                yield lambda: self._all() - before
        finally:
            self._in_time += self._all() - before

    def late(self) -> int:
        """Graphs that were compiled while no model was loaded."""
        return self._all() - self._in_time

    def _all(self) -> int:
        if not self._any:
            return 0
        from models import compilation

        return compilation.compiled()
