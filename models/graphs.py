"""Forwards as CUDA graphs: recorded once for a shape, then replayed with a single launch.

Small networks leave a GPU waiting for the next kernel to be launched; a replay does not. It runs
the same kernels on the same numbers. Knows nothing of what a module computes.
"""

import contextlib
import logging
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from models.merge import Forward, Way, per_row

log = logging.getLogger(__name__)

LARGEST = 1 << 17  # numbers in the rows; beyond it the GPU is busy for longer than a launch takes
BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32)  # rows; fewer are filled up to the next
SIGHTS = 2  # a shape that is met this often is worth recording
MOST = 24  # recordings that are kept
KNOWN = 4096  # shapes whose sights are counted

Replay: TypeAlias = Callable[[], None]
# Runs a function several times, the last of them recorded; its output, whose tensors every replay
# fills anew.
Record: TypeAlias = Callable[[Callable[[], Any]], tuple[Any, Replay]]


@dataclass(frozen=True, slots=True)
class Recording:
    """A forward whose arguments and outputs stay at their addresses."""

    arguments: dict[str, Any]
    output: Any
    replay: Replay


class Graphs:
    """A way that replays what it has met before; the least recently used recordings go first.

    Args:
        way: how forwards are run that are not replayed, and those that are recorded.
    """

    def __init__(self, way: Way, record: Record | None = None) -> None:
        self._way = way
        self._record = record or recorder()
        self._sights: Counter[Hashable] = Counter()
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()
        self._given_up = False

    def __len__(self) -> int:
        """Recordings that are kept."""
        return len(self._kept)

    def __call__(self, forward: Forward) -> Any:
        rows = rows_of(forward)
        if rows is None or rows > BUCKETS[-1]:
            return self._plainly(forward)
        full = filled(forward, rows, next(size for size in BUCKETS if size >= rows))
        recording = self._recording(full)
        if recording is None:
            return self._plainly(forward)
        copy_into(recording.arguments, full.arguments)
        recording.replay()
        return own(recording.output, rows)

    def _plainly(self, forward: Forward) -> Any:
        """Run it; where there is no room, once more without the recordings."""
        try:
            return self._way(forward)
        except torch.OutOfMemoryError:
            if not self._kept:
                raise
        # Beyond the except block: its exception keeps what did not fit.
        self._kept.clear()
        return self._way(forward)

    def _recording(self, forward: Forward) -> Recording | None:
        """That of a forward which has been met before."""
        key = signature(forward)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key is None or self._given_up or self._sight(key) < SIGHTS:
            return None
        try:
            recording = self._recorded(forward)
        except torch.OutOfMemoryError:
            return None  # which may pass
        except RuntimeError as error:  # if the device is lost, the plain forward will say so
            log.warning("a forward could not be recorded, so none is any more: %s", error)
            self._given_up = True
            return None
        while len(self._kept) >= MOST:
            self._kept.popitem(last=False)
        self._kept[key] = recording
        return recording

    def _sight(self, key: Hashable) -> int:
        """How often it has been met."""
        if len(self._sights) >= KNOWN:
            self._sights.clear()
        self._sights[key] += 1
        return self._sights[key]

    def _recorded(self, forward: Forward) -> Recording:
        still = on_device(forward.arguments, device_of(forward))
        output, replay = self._record(lambda: self._way(replace(forward, arguments=still)))
        return Recording(still, output, replay)


def recorder() -> Record:
    """Records with torch; recordings of one recorder share their memory while any is alive."""
    alive: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()
    pool: Any = None

    def record(run: Callable[[], Any]) -> tuple[Any, Replay]:
        nonlocal pool
        here = torch.cuda.current_stream()
        try:
            rehearse(run)
            if not alive:  # a pool ends with the last graph in it, and may not be used again
                pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                output = run()
            alive.add(graph)
            return output, graph.replay
        finally:  # a recording that failed does not find its way back by itself
            torch.cuda.set_stream(here)

    return record


def rehearse(run: Callable[[], Any]) -> None:
    """Run it aside, as it will be recorded: libraries set themselves up in the first run.

    Raises:
        RuntimeError: it waits for the device, and cannot be recorded.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(aside):
            run()
            with no_waiting():
                run()
    finally:  # what it leaves behind may be used at once
        torch.cuda.current_stream().wait_stream(aside)


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Meanwhile what waits for the device fails. In a recording it would too, but one that breaks
    off leaves torch's allocator beyond repair."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it does not notice every way to wait
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def rows_of(forward: Forward) -> int | None:
    """How many rows a forward has; None for one that is not to be recorded.

    Networks' own forwards alone are: other methods, such as decoding, take longer than launching
    them. With adapters they are not, whose weights come and go.
    """
    network = isinstance(forward.function, torch.nn.Module)
    if not network or forward.rule is None or forward.rule.uneven or forward.worn:
        return None
    rows = forward.arguments[forward.rule.rows]
    small = isinstance(rows, torch.Tensor) and rows.numel() <= LARGEST
    return len(rows) if small else None


def device_of(forward: Forward) -> torch.device:
    """Where a forward with rows is run."""
    assert forward.rule is not None
    return forward.arguments[forward.rule.rows].device


def filled(forward: Forward, rows: int, bucket: int) -> Forward:
    """The forward with so many rows: the last one is repeated, and each has a time of its own."""
    assert forward.rule is not None
    arguments = dict(forward.arguments)
    for name in forward.rule.times & arguments.keys():
        arguments[name] = per_row(arguments[name], rows)
    for name in (forward.rule.batch | forward.rule.times) & arguments.keys():
        arguments[name] = extended(arguments[name], bucket - rows)
    return replace(forward, arguments=arguments)


def extended(value: Any, more: int) -> Any:
    """Tensors, mappings of them, or lists, the last entry of which comes so many times more."""
    if not more or value is None:
        return value
    if isinstance(value, Mapping):
        return {name: extended(part, more) for name, part in value.items()}
    if isinstance(value, list):
        return value + value[-1:] * more
    return torch.cat([value, value[-1:].expand(more, *value.shape[1:])])


def signature(forward: Forward) -> Hashable:
    """Equal for forwards that one recording serves; None if that cannot be told."""
    parts = [described(value) for _, value in sorted(forward.arguments.items())]
    if None in parts:
        return None
    return (forward.function, tuple(sorted(forward.arguments)), *parts)


def described(value: Any) -> Hashable:
    """A tensor's form, or a constant itself; None for what is neither."""
    if isinstance(value, torch.Tensor):
        return ("tensor", tuple(value.shape), value.dtype)
    if isinstance(value, Mapping):
        return described([part for item in sorted(value.items()) for part in item])
    if isinstance(value, list | tuple):
        parts = tuple(described(part) for part in value)
        return None if None in parts else (type(value), parts)
    plain = value is None or isinstance(value, bool | int | float | str)
    return ("constant", type(value), value) if plain else None


def on_device(value: Any, device: torch.device) -> Any:
    """The same, its tensors copied to addresses of their own."""
    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True).contiguous()
    if isinstance(value, Mapping):
        return {name: on_device(part, device) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_device(part, device) for part in value)
    return value


def copy_into(still: Any, fresh: Any) -> None:
    """Write the fresh tensors to the addresses of the recording's."""
    if isinstance(still, torch.Tensor):
        still.copy_(fresh, non_blocking=True)
    elif isinstance(still, Mapping):
        for name, part in still.items():
            copy_into(part, fresh[name])
    elif isinstance(still, list | tuple):
        for part, other in zip(still, fresh, strict=True):
            copy_into(part, other)


def own(output: Any, rows: int) -> Any:
    """The first rows of a recording's output, which the next replay will not overwrite."""
    if isinstance(output, torch.Tensor):
        return output[:rows].clone()
    if isinstance(output, list | tuple):
        return tuple(own(part, rows) for part in output)
    return output
