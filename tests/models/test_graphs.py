"""Replayed forwards give what the forwards themselves give, whatever came between.

CUDA graphs need a GPU; here a recording is a function that is called again, on the same addresses.
All that is ours, and not CUDA's, is the same.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.graphs import BUCKETS, LARGEST, MOST, SIGHTS, Graphs, Replay
from models.merge import Forward, plainly, rule

RULE = rule("sample", batch="sample words added", times="timestep", alike="places")


class Network(torch.nn.Module):
    """Every row of the output depends on that row of everything."""

    def forward(
        self,
        sample: Tensor,
        timestep: Any,
        words: Tensor,
        added: dict[str, Tensor] | None = None,
        places: Tensor | None = None,
        flag: bool = False,
    ) -> tuple[Tensor]:
        assert not flag or places is not None
        out = sample * words.mean(-1, keepdim=True) + torch.as_tensor(timestep).reshape(-1, 1)
        for part in (added or {}).values():
            out = out + part
        return (out + (0 if places is None else places.sum()),)


network = Network()


class Recorder:
    """Plays back by running the function again, into the output of the first run."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.asked = self.recorded = self.replayed = 0
        self.refuse = refuse

    def __call__(self, run: Callable[[], Any]) -> tuple[Any, Replay]:
        self.asked += 1
        if self.refuse:
            raise self.refuse
        self.recorded += 1
        output = run()

        def replay() -> None:
            self.replayed += 1
            for still, fresh in zip(output, run(), strict=True):
                still.copy_(fresh)

        return output, replay


def forward(rows: int, seed: int = 0, **more: Any) -> Forward:
    dice = torch.Generator().manual_seed(seed)
    arguments = {
        "sample": torch.randn(rows, 6, generator=dice),
        "timestep": torch.rand(rows, generator=dice),
        "words": torch.randn(rows, 3, generator=dice),
    }
    return Forward(network, arguments | more, RULE)


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def met(graphs: Graphs, some: Forward) -> Any:
    """The output when a shape has been met often enough."""
    for _ in range(SIGHTS - 1):
        graphs(some)
    return graphs(some)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13])
def test_a_replay_gives_what_the_forward_gives_in_every_number_of_rows(rows: int) -> None:
    recorder = Recorder()
    graphs = Graphs(plainly, recorder)
    for seed in range(SIGHTS + 3):
        some = forward(rows, seed)
        same(graphs(some), plainly(some))
    assert (recorder.recorded, recorder.replayed) == (1, 4)


def test_rows_up_to_the_next_bucket_share_a_recording() -> None:
    recorder = Recorder()
    graphs = Graphs(plainly, recorder)
    met(graphs, forward(4))
    for rows in (3, 4):
        same(graphs(forward(rows, 7)), plainly(forward(rows, 7)))
    assert recorder.recorded == 1
    met(graphs, forward(5))
    assert recorder.recorded == 2


def test_what_was_given_out_is_not_changed_by_the_next_replay() -> None:
    graphs = Graphs(plainly, Recorder())
    (kept,) = met(graphs, forward(2, 1))
    before = kept.clone()
    graphs(forward(2, 2))
    assert torch.equal(kept, before)


def test_a_time_for_all_rows_acts_on_each() -> None:
    graphs = Graphs(plainly, Recorder())
    for time in (torch.tensor(0.5), torch.tensor([0.25]), 3.0, 4.0, 5.0):
        some = forward(3, timestep=time)
        same(graphs(some), plainly(some))


def test_mappings_are_filled_and_shared_tensors_are_not() -> None:
    graphs = Graphs(plainly, Recorder())
    for seed in range(4):
        more = {"added": {"b": torch.full((3, 6), float(seed))}, "places": torch.full((9, 3), seed)}
        some = forward(3, seed, **more)
        same(graphs(some), plainly(some))


def test_what_a_recording_cannot_change_has_a_recording_of_its_own() -> None:
    recorder = Recorder()
    graphs = Graphs(plainly, recorder)
    places = torch.ones(2, 3)
    for flag in (True, False):
        met(graphs, forward(2, flag=flag, places=places))
    met(graphs, forward(2))  # without the argument
    met(graphs, Forward(network, forward(2).arguments | {"sample": torch.ones(2, 7)[:, :6]}, RULE))
    assert recorder.recorded == 3  # the last has the shape of the one before


@pytest.mark.parametrize(
    "some",
    [
        forward(BUCKETS[-1] + 1),
        Forward(network, forward(2).arguments),
        Forward(network, forward(2).arguments, RULE, (("pixel", 1.0),)),
        Forward(network, forward(2, sample=torch.ones(2, LARGEST)).arguments, RULE),
        Forward(network, {"x": [torch.ones(2)]}, rule("x", batch="", uneven="x")),
        Forward(network, forward(2, odd=object()).arguments, RULE),
        Forward(network.forward, forward(2).arguments, RULE),
    ],
    ids=["many rows", "no rule", "adapters", "large", "uneven", "unknown argument", "a method"],
)
def test_what_may_not_be_recorded_is_run(some: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Forward] = []

    def way(forward: Forward) -> Sequence[Tensor]:
        ran.append(forward)
        return (torch.zeros(1),)

    recorder = Recorder()
    graphs = Graphs(way, recorder)
    for _ in range(SIGHTS + 1):
        graphs(some)
    assert ran == [some] * (SIGHTS + 1)
    assert not recorder.recorded


def test_when_one_could_not_be_recorded_none_is_any_more(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(refuse=RuntimeError("operation not permitted when stream is capturing"))
    graphs = Graphs(plainly, recorder)
    for rows in (2, 4):
        for seed in range(SIGHTS + 3):
            some = forward(rows, seed)
            same(graphs(some), plainly(some))
    assert len(caplog.records) == recorder.asked == 1


def test_a_shortage_while_recording_may_pass() -> None:
    recorder = Recorder(refuse=torch.OutOfMemoryError("no room"))
    graphs = Graphs(plainly, recorder)
    same(met(graphs, forward(2)), plainly(forward(2)))
    recorder.refuse = None
    same(graphs(forward(2)), plainly(forward(2)))
    assert len(graphs) == 1


def test_recordings_give_way_to_what_needs_their_memory() -> None:
    def way(forward: Forward) -> Any:
        if len(forward.arguments["sample"]) > 8 and len(graphs):
            raise torch.OutOfMemoryError("no room")
        return plainly(forward)

    graphs = Graphs(way, Recorder())
    met(graphs, forward(2))
    same(graphs(forward(9)), plainly(forward(9)))
    assert not len(graphs)


def test_the_least_recently_used_recordings_go() -> None:
    recorder = Recorder()
    graphs = Graphs(plainly, recorder)

    def shape(width: int) -> Forward:
        words = torch.ones(2, width)
        return forward(2, words=words)

    for width in range(1, MOST + 1):
        met(graphs, shape(width))
    graphs(shape(1))
    met(graphs, shape(MOST + 1))
    assert len(graphs) == MOST
    assert recorder.recorded == MOST + 1
    graphs(shape(1))
    assert recorder.recorded == MOST + 1
    graphs(shape(2))  # met before, and let go
    assert recorder.recorded == MOST + 2


class Cuda:
    """What a recorder asks of torch.cuda."""

    def __init__(self) -> None:
        self.used: list[int] = []  # pools, in the order of the recordings
        self.break_off: Exception | None = None
        self.waits: int | str = 0  # what comes of a forward that waits for the device
        self._pools = 0

    def graph_pool_handle(self) -> int:
        self._pools += 1
        return self._pools

    @contextmanager
    def graph(self, graph: Any, pool: int) -> Iterator[None]:
        self.used.append(pool)
        if self.break_off:
            raise self.break_off
        yield

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        yield

    def current_stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda other: None)

    Stream = current_stream

    def set_stream(self, stream: Any) -> None:
        """There is but one."""

    def get_sync_debug_mode(self) -> int | str:
        return self.waits

    def set_sync_debug_mode(self, mode: int | str) -> None:
        warnings.warn("a prototype, which does not notice all", stacklevel=2)
        self.waits = mode


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    for name in (
        *("graph_pool_handle", "graph", "stream", "current_stream", "Stream", "set_stream"),
        *("get_sync_debug_mode", "set_sync_debug_mode"),
    ):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    return cuda


class Graph:
    """One that can be weakly referred to, as torch's can."""

    def replay(self) -> None:
        """Nothing is looked at."""


def test_recordings_share_a_pool_only_while_one_of_them_is_alive(cuda: Cuda) -> None:
    graphs = Graphs(plainly)
    for rows in (1, 2, 4):
        met(graphs, forward(rows))
    graphs._kept.popitem()
    met(graphs, forward(4))
    graphs._kept.clear()
    met(graphs, forward(1))
    assert cuda.used == [1, 1, 1, 1, 2]


def test_a_pool_is_not_used_again_after_a_shortage_in_its_first_recording(cuda: Cuda) -> None:
    graphs = Graphs(plainly)
    cuda.break_off = torch.OutOfMemoryError("no room")
    met(graphs, forward(1))
    cuda.break_off = None
    met(graphs, forward(1))
    assert cuda.used == [1, 2]


def test_a_forward_that_waits_for_the_device_is_refused_before_it_is_recorded(
    cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    def way(forward: Forward) -> Any:
        if cuda.waits == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return plainly(forward)

    graphs = Graphs(way)
    for _ in range(2):
        same(met(graphs, forward(2)), plainly(forward(2)))
    assert "synchronizing" in caplog.text
    assert not cuda.used
    assert cuda.waits == 0


def test_waiting_is_forbidden_in_no_recording_and_not_for_good(cuda: Cuda) -> None:
    seen: list[int | str] = []

    def way(forward: Forward) -> Any:
        seen.append(cuda.waits)
        return plainly(forward)

    cuda.waits = 1
    met(Graphs(way), forward(2))
    assert seen == [1, 1, "error", 1]  # plainly, to set up, rehearsed, recorded
    assert cuda.waits == 1
