"""The step loop with models that need no network: order, sharing, faults, cancelling."""

import gc
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import active_count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.canvas import BadJob, Call, CanvasCancelled, DeviceLost, Easel, NotFinite, OutOfMemory
from models.contract import (
    AnyEvent,
    Cancelled,
    Failed,
    FaultKind,
    Finished,
    Image,
    Job,
    Step,
    Task,
)
from models.studio import Studio

BLANK = Image(1, 1, "RGB", b"\0\0\0")


def job(name: str, steps: int = 3, **changes: object) -> Job:
    defaults: dict[str, object] = {"id": name, "model": "m", "task": "generate", "prompt": ""}
    defaults |= {"width": 8, "height": 8, "steps": steps, "guidance": 1.0, "seeds": (0, 1, 2, 3)}
    return Job(**(defaults | changes))


@dataclass
class Scripted:
    """A model whose forwards are recorded and may fail."""

    room: int = 99  # canvases that fit a forward
    forwards: list[list[str]] = field(default_factory=list)
    fail: dict[str, Exception] = field(default_factory=dict)  # by job: raised outside a forward
    break_forward: dict[str, BaseException] = field(default_factory=dict)
    refused: int = 0
    cleaned: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("generate",)

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        name = f"{job.id}{index}"
        try:
            for step in range(1, job.steps + 1):
                assert easel.ask(Call("forward", "k", self.forward, name)) == name
                easel.step(step, job.steps, lambda: BLANK)
            if error := self.fail.get(job.id):
                raise error
            return BLANK
        finally:
            self.cleaned.append(name)

    def settle(self) -> None:
        pass

    def forward(self, calls: Sequence[Call]) -> Sequence[str]:
        names = [call.arguments for call in calls]
        if len(names) > self.room:
            self.refused += 1
            raise OutOfMemory(f"{len(names)} are too many")
        for name in names:
            if error := self.break_forward.get(name[:-1]):
                raise error
        self.forwards.append(names)
        return names


@dataclass
class Run:
    model: Scripted = field(default_factory=Scripted)
    events: list[AnyEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.studio = Studio(self.events.append)
        self.studio.cap("m", "forward", 8)

    def start(self, asked: Job, index: int = 0) -> None:
        self.studio.start(self.model, asked, index, [], None)

    def finish(self) -> None:
        while len(self.studio):
            self.studio.tick()

    def endings(self) -> dict[str, AnyEvent]:
        ends = [e for e in self.events if isinstance(e, Finished | Failed | Cancelled)]
        assert len(ends) == len({(e.job, e.index) for e in ends}), "a canvas ended twice"
        return {f"{e.job}{e.index}": e for e in ends}


def kind(event: AnyEvent) -> FaultKind:
    assert isinstance(event, Failed)
    return event.fault.kind


def test_equal_calls_share_a_forward_up_to_the_cap() -> None:
    run = Run()
    run.studio.cap("m", "forward", 2)
    for index in range(3):
        run.start(job("a", 1), index)
    run.finish()
    assert sorted(map(len, run.model.forwards)) == [1, 2]


@pytest.mark.parametrize(
    ("side", "expected"),
    [(8, 4), (7, 4), (9, 2), (16, 2), (17, 2)],  # the nearest that is not smaller, or the largest
)
def test_the_cap_is_that_of_the_size(side: int, expected: int) -> None:
    run = Run()
    run.studio.cap("m", "forward", 4, area=64)
    run.studio.cap("m", "forward", 2, area=256)
    for index in range(4):
        run.start(msgspec.structs.replace(job("a", 1), width=side, height=side), index)
    run.studio.tick()
    assert [len(names) for names in run.model.forwards] == [expected]


def test_strict_jobs_are_alone() -> None:
    run = Run()
    run.start(job("a", 2, strict=True))
    run.start(job("b", 2))
    run.start(job("c", 2))
    run.finish()
    assert Counter(len(names) for names in run.model.forwards) == {1: 2, 2: 2}


def test_the_shortest_goes_first_and_the_longest_is_not_starved() -> None:
    run = Run()
    run.studio.cap("m", "forward", 1)
    run.start(job("long", 12))
    for i in range(40):
        run.start(job(f"s{i}", 2))
        run.studio.tick()
    run.finish()
    order = [e.job for e in run.events if isinstance(e, Finished)]
    assert order[0] == "s0"
    assert order.index("long") < 30  # waiting made it urgent before the last of the short ones


def test_who_has_no_step_left_is_not_passed_by_who_came_long_before() -> None:
    order: list[str] = []

    class Decoding(Scripted):
        def paint(self, job: Job, *rest: object) -> Image:
            easel: Easel = rest[-1]
            for step in range(1, job.steps + 1):
                easel.ask(Call("forward", "k", lambda calls: [order.append("f")] * len(calls), 0))
                easel.step(step, job.steps, lambda: BLANK)
            easel.ask(Call("decode", None, lambda calls: [order.append(job.id)], 0))
            return BLANK

    run = Run(Decoding())
    run.start(job("old", 44))
    for _ in range(40):
        run.studio.tick()
    order.clear()
    run.start(job("new", 1))
    run.finish()
    assert order == ["f", "new", "f", "f", "f", "old"]


def test_a_late_arrival_joins_the_running() -> None:
    run = Run()
    run.start(job("a", 4))
    run.studio.tick()
    run.studio.tick()
    run.start(job("b", 4))
    run.finish()
    shared = [sorted(names) for names in run.model.forwards]
    assert shared == [["a0"], ["a0"], ["a0", "b0"], ["a0", "b0"], ["b0"], ["b0"]]


def test_cancelling_stops_at_once_and_cleans_up() -> None:
    run = Run()
    run.start(job("a", 100))
    run.start(job("b", 5))
    run.studio.tick()
    run.studio.cancel("a", 0)
    assert run.events[-1] == Cancelled("a", 0)
    assert run.model.cleaned == ["a0"]
    run.finish()
    assert isinstance(run.endings()["b0"], Finished)
    assert all("a0" not in names for names in run.model.forwards[1:])


def test_cancelling_the_unknown_does_nothing() -> None:
    run = Run()
    run.studio.cancel("nobody", 0)
    assert run.events == []


def test_others_go_on_while_one_waits_for_the_device() -> None:
    order: list[str] = []
    here = False

    class Slow(Scripted):
        def paint(self, job: Job, *rest: object) -> Image:
            easel: Easel = rest[-1]
            if job.id == "a":
                wait = Call("arrival", None, lambda calls: [order.append("waited")], None)
                easel.ask(replace(wait, ready=lambda: here))
                order.append("arrived")
                return BLANK
            for step in range(3):
                easel.ask(Call("forward", None, lambda calls: [order.append("step")], step))
            return BLANK

    events: list[AnyEvent] = []
    studio = Studio(events.append)
    model = Slow()
    studio.start(model, job("a", seeds=(0,)), 0, (), None)  # the most urgent, had it work
    studio.start(model, job("b", seeds=(0,)), 0, (), None)
    studio.tick()
    here = True
    studio.tick()
    while len(studio):
        studio.tick()
    assert order == ["step", "waited", "arrived", "step", "step"]
    studio.start(model, job("a", seeds=(0,)), 0, (), None)
    here = False
    studio.tick()  # there is nothing better to do
    assert not len(studio)


def test_out_of_memory_halves_the_group_until_it_fits() -> None:
    run = Run(Scripted(room=2))
    for name in "abcde":
        run.start(job(name, 2))
    run.finish()
    assert all(isinstance(end, Finished) for end in run.endings().values())
    assert max(map(len, run.model.forwards)) == 2


def test_what_did_not_fit_is_not_tried_again() -> None:
    run = Run(Scripted(room=2))
    for name in "abcd":
        run.start(job(name, 10))
    run.finish()
    assert run.model.refused == 1


def test_a_lost_device_ends_the_studio() -> None:
    run = Run(Scripted(break_forward={"a": DeviceLost("illegal access")}))
    run.start(job("a"))
    with pytest.raises(DeviceLost):
        run.studio.tick()


def test_finished_canvases_are_freed_without_the_collector() -> None:
    gc.disable()
    try:
        run = Run()
        run.start(job("a", 1))
        canvas = weakref.ref(next(iter(run.studio._canvases.values())))
        run.finish()
        deadline = time.monotonic() + 5
        while canvas() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # its thread may be in its last instruction
        assert canvas() is None
    finally:
        gc.enable()


def test_out_of_memory_alone_fails_that_canvas() -> None:
    run = Run(Scripted(room=0))
    run.start(job("a"))
    run.finish()
    assert kind(run.endings()["a0"]) == "out_of_memory"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotFinite("nan"), "not_finite"),
        (BadJob("no"), "bad_job"),
        (OutOfMemory("encode"), "out_of_memory"),
        (ValueError("other"), "internal"),
    ],
)
def test_a_canvas_that_breaks_breaks_alone(error: Exception, expected: FaultKind) -> None:
    run = Run(Scripted(fail={"a": error}))
    run.start(job("a"))
    run.start(job("b"))
    run.finish()
    assert kind(run.endings()["a0"]) == expected
    assert isinstance(run.endings()["b0"], Finished)


def test_a_broken_forward_gives_each_its_own_error() -> None:
    run = Run(Scripted(break_forward={"a": ValueError("broken")}))
    run.start(job("a"))
    run.start(job("b"))
    run.finish()
    ends = run.endings()
    assert [kind(ends["a0"]), kind(ends["b0"])] == ["internal", "internal"]


def test_steps_are_counted_from_one() -> None:
    run = Run()
    run.start(job("a", 3, preview_every=2))
    run.finish()
    steps = [(e.step, e.steps, e.preview) for e in run.events if isinstance(e, Step)]
    assert steps == [(1, 3, None), (2, 3, BLANK), (3, 3, None)]


def test_closing_leaves_no_thread_behind() -> None:
    before = active_count()
    run = Run()
    for index in range(4):
        run.start(job("a", 50), index)
    run.studio.tick()
    assert active_count() == before + 4
    run.studio.close()
    assert len(run.studio) == 0
    assert len(run.endings()) == 4
    for _ in range(100):
        if active_count() == before:
            break
    assert active_count() == before


def test_the_cancellation_is_no_exception_that_a_library_would_catch() -> None:
    assert not issubclass(CanvasCancelled, Exception)


actions = st.lists(
    st.tuples(st.sampled_from(["start", "cancel", "tick"]), st.integers(0, 7)), max_size=60
)


@given(actions, st.sets(st.integers(0, 7)), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_every_canvas_ends_exactly_once(
    script: list[tuple[str, int]], faulty: set[int], room: int
) -> None:
    fail: dict[str, Exception] = {f"j{i}": ValueError(i) for i in faulty}
    run = Run(Scripted(room=room, fail=fail))
    started: set[str] = set()
    for action, number in script:
        name = f"j{number}"
        if action == "start" and name not in started:
            started.add(name)
            run.start(job(name, 1 + number))
        elif action == "cancel":
            run.studio.cancel(name, 0)
        else:
            run.studio.tick()
    run.finish()
    assert set(run.endings()) == {f"{name}0" for name in started}
    for name, end in run.endings().items():
        assert isinstance(end, Cancelled | Failed | Finished)
        if isinstance(end, Finished):
            assert int(name[1:-1]) not in faulty
