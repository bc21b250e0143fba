"""How many canvases a forward may hold is measured: as many as pay, and none that cost too much."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from models import warmup
from models.canvas import Call, Easel, NotFinite, OutOfMemory
from models.contract import Cap, Image, Job, ModelSpec, Task, Tuning
from models.warmup import WarmUpFailed, rehearse, warm_up

SPEC = ModelSpec(id="m", family="toy", width=8, height=8, max_batch=8)


@dataclass
class Timed:
    """A model whose forwards take as long as the test says for so many canvases."""

    seconds: Callable[[int, int], float]  # of so many canvases of so many pixels
    key: object = "k"
    room: int = 99
    broken: bool = False
    guidance: float = 0.0  # of the last that was painted

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("generate",)

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        self.guidance = job.guidance
        for _ in range(job.steps):
            easel.ask(Call("forward", self.key, self.forward, job.width * job.height))
        if self.broken:
            raise NotFinite("nan")
        return Image(1, 1, "RGB", b"\0\0\0")

    def forward(self, calls: Sequence[Call]) -> Sequence[None]:
        if len(calls) > self.room:
            raise OutOfMemory("too many")
        time.sleep(self.seconds(len(calls), calls[0].arguments))
        return [None] * len(calls)

    def settle(self) -> None:
        pass


def canvases(caps: Sequence[Cap]) -> dict[str, int]:
    """Of the only size, by the kind of call."""
    assert {(cap.width, cap.height) for cap in caps} == {(SPEC.width, SPEC.height)}
    return {cap.kind: cap.canvases for cap in caps}


# Times as long as alone: with each more canvases a tenth more of them a second.
GROWING = {1: 1, 2: 1.82, 3: 2.47, 4: 2.98, 6: 4.12, 8: 4.9, 12: 6.7, 16: 8.1}
# From 6 to 8, a thirtieth more of them a second.
SLOWING = {1: 1, 2: 1.4, 3: 1.9, 4: 2.4, 6: 3.3, 8: 4.27}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda n, _: 0.01, 8),  # company is free
        (lambda n, _: 0.03 * n, 1),  # company gains nothing
        (lambda n, _: 0.03 * GROWING[n], 6),  # it gains, until it takes COMPANY as long
        (lambda n, _: 0.03 * SLOWING[n], 8),  # a third more is worth a gain of .03
        (lambda n, _: 0.01 if n <= 2 else 0.03, 2),
        (lambda n, _: 0.025 if n == 3 else 0.01, 8),  # one bad measurement decides nothing
    ],
)
def test_the_cap_is_where_company_stops_paying(
    seconds: Callable[[int, int], float], expected: int
) -> None:
    assert canvases(warm_up(Timed(seconds), SPEC)) == {"forward": expected}


def test_what_may_not_merge_is_not_merged() -> None:
    assert canvases(warm_up(Timed(lambda n, _: 0.002, key=None), SPEC)) == {"forward": 1}


def test_a_device_that_runs_full_ends_the_search_and_leaves_no_thread() -> None:
    before = threading.active_count()
    assert canvases(warm_up(Timed(lambda n, _: 0.002, room=2), SPEC)) == {"forward": 2}
    assert threading.active_count() == before


def test_a_rehearsal_goes_on_where_two_do_not_fit() -> None:
    spec = msgspec.structs.replace(SPEC, tuning=Tuning(compile=True), buckets=((8, 16),))
    model = Timed(lambda n, px: 0.001, room=1)
    assert {cap.canvases for cap in warm_up(model, spec)} == {1}


def test_a_model_that_cannot_paint_is_said_to() -> None:
    with pytest.raises(WarmUpFailed, match="NotFinite"):
        warm_up(Timed(lambda n, _: 0.0, broken=True), SPEC)


def by_size(n: int, pixels: int) -> float:
    """Company is free for 8×8, and gains nothing for more."""
    return 0.01 if pixels <= 64 else 0.03 * n


def spec_with(*buckets: tuple[int, int], **said: Any) -> ModelSpec:
    return msgspec.structs.replace(SPEC, buckets=buckets, **said)


def test_each_size_has_caps_of_its_own_the_largest_first() -> None:
    caps = warm_up(Timed(by_size), spec_with((16, 16)))
    assert [(cap.width, cap.height, cap.canvases) for cap in caps] == [(16, 16, 1), (8, 8, 8)]
    assert all(cap.seconds >= least for cap, least in zip(caps, (0.03, 0.01), strict=True))


def test_sizes_that_are_about_alike_are_measured_once() -> None:
    caps = warm_up(Timed(by_size), spec_with((8, 7), (7, 8), (9, 8)))
    assert [(cap.width, cap.height) for cap in caps] == [(9, 8)]


def test_a_size_that_there_is_no_time_for_has_no_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "PATIENCE", 0.0)
    caps = warm_up(Timed(by_size), spec_with((16, 16)))
    assert [(cap.width, cap.canvases) for cap in caps] == [(16, 1)]


def test_what_is_compiled_meets_every_size_and_number_of_rows_ahead() -> None:
    met: list[tuple[int, int, float]] = []
    model = Timed(lambda n, pixels: met.append((n, pixels, model.guidance)) or 0.0)
    rehearse(model, spec_with((16, 16), tuning=Tuning(compile=True)))
    told = [(1, 64, 1.0), (1, 64, 4.0), (2, 64, 4.0), (1, 256, 4.0), (2, 256, 4.0)]
    assert met == told
    met.clear()
    rehearse(model, spec_with((16, 16), max_batch=1, tuning=Tuning(compile=True)))
    assert {n for n, _, _ in met} == {1}
    met.clear()
    rehearse(model, spec_with((16, 16)))  # nothing is compiled
    assert not met
