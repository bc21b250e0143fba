"""How many canvases a forward may hold is measured: as many as pay, and none that cost too much."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from models.canvas import Call, Easel, NotFinite, OutOfMemory
from models.contract import Image, Job, ModelSpec, Task
from models.warmup import WarmUpFailed, warm_up

SPEC = ModelSpec(id="m", family="toy", width=8, height=8, max_batch=8)


@dataclass
class Timed:
    """A model whose forwards take as long as the test says for so many canvases."""

    seconds: Callable[[int], float]
    key: object = "k"
    room: int = 99
    broken: bool = False

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("generate",)

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        for _ in range(job.steps):
            easel.ask(Call("forward", self.key, self.forward, None))
        if self.broken:
            raise NotFinite("nan")
        return Image(1, 1, "RGB", b"\0\0\0")

    def forward(self, calls: Sequence[Call]) -> Sequence[None]:
        if len(calls) > self.room:
            raise OutOfMemory("too many")
        time.sleep(self.seconds(len(calls)))
        return [None] * len(calls)

    def settle(self) -> None:
        pass


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda n: 0.01, 8),  # company is free
        (lambda n: 0.03 * n, 1),  # company gains nothing
        (lambda n: 0.03 * (1 + 0.35 * (n - 1)), 3),  # it gains, until it costs twice the time
        (lambda n: 0.01 if n <= 2 else 0.03, 2),
    ],
)
def test_the_cap_is_where_company_stops_paying(
    seconds: Callable[[int], float], expected: int
) -> None:
    assert warm_up(Timed(seconds), SPEC) == {"forward": expected}


def test_what_may_not_merge_is_not_merged() -> None:
    assert warm_up(Timed(lambda n: 0.002, key=None), SPEC) == {"forward": 1}


def test_a_device_that_runs_full_ends_the_search_and_leaves_no_thread() -> None:
    before = threading.active_count()
    assert warm_up(Timed(lambda n: 0.002, room=2), SPEC) == {"forward": 2}
    assert threading.active_count() == before


def test_a_model_that_cannot_paint_is_said_to() -> None:
    with pytest.raises(WarmUpFailed, match="NotFinite"):
        warm_up(Timed(lambda n: 0.0, broken=True), SPEC)
