"""Canvases out, events back: every submitted one ends exactly once, whatever dies meanwhile."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import (
    AnyCommand,
    Attach,
    Cancel,
    Cancelled,
    Evicted,
    Failed,
    Fault,
    Finished,
    Image,
    Job,
    Loaded,
    LoadFailed,
    Paint,
    Release,
    Room,
    Step,
    Task,
)
from server.errors import ModelFailed, Overloaded, ShuttingDown, Unprocessable
from server.jobs.backlog import Backlog
from server.jobs.dispatch import Dispatch, Ticket
from server.jobs.engine import Listener, State

BLANK = Image(1, 1, "RGB", b"\0\0\0")
TASKS: tuple[Task, ...] = ("generate", "edit")


class Script:
    """An engine whose worker does what the test says; it keeps what it was sent."""

    def __init__(self, name: str = "e", canvases: int = 4) -> None:
        self.name = name
        self.state: State = "ready"
        self.canvases = canvases
        self.models: dict[str, tuple[Task, ...]] = {"m": TASKS}
        self.resident: set[str] = {"m"}
        self.failures: dict[str, str] = {}
        self.sent: list[AnyCommand] = []
        self.live: list[tuple[str, int]] = []
        self.most_together: dict[tuple[str, int], int] = {}
        self._over = asyncio.Event()

    @property
    def offered(self) -> set[str]:
        return {"m", "x"} - self.failures.keys()

    def send(self, command: AnyCommand) -> None:
        self.sent.append(command)
        if isinstance(command, Paint):
            self.live.append((command.job.id, command.index))
            for key in self.live:
                most = self.most_together.get(key, 0)
                self.most_together[key] = max(most, len(self.live))

    async def run(self, listener: Listener) -> None:
        await self._over.wait()

    async def stop(self) -> None:
        self._over.set()

    def finish(self, dispatch: Dispatch, job: str, index: int) -> None:
        self.live.remove((job, index))
        dispatch.heard(self, Finished(job, index, BLANK, 0.1))

    def obey_cancels(self, dispatch: Dispatch) -> None:
        for command in [c for c in self.sent if isinstance(c, Cancel)]:
            if (command.job, command.index) in self.live:
                self.live.remove((command.job, command.index))
                dispatch.heard(self, Cancelled(command.job, command.index))

    def die(self, dispatch: Dispatch) -> None:
        self.live.clear()
        self.models, room = {}, self.canvases
        self.canvases = 0
        dispatch.lost(self)
        self.models, self.canvases = {"m": TASKS}, room
        dispatch.heard(self, Room(room))

    def painted(self) -> list[tuple[str, int]]:
        return [(c.job.id, c.index) for c in self.sent if isinstance(c, Paint)]


def job(name: str, n: int = 1, task: Task = "generate", model: str = "m") -> Job:
    return Job(
        id=name,
        model=model,
        task=task,
        prompt="",
        width=8,
        height=8,
        steps=1,
        guidance=1.0,
        seeds=tuple(range(n)),
        inputs=1 if task == "edit" else 0,
    )


def ends(ticket: Ticket) -> list[object]:
    """What a ticket has to say by now; it must be over."""

    async def collect() -> list[object]:
        return [event async for event in ticket]

    return asyncio.run(asyncio.wait_for(collect(), 1))


def test_canvases_go_out_as_there_is_room() -> None:
    engine = Script(canvases=2)
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a", 3), "ann")
    assert engine.painted() == [("a", 0), ("a", 1)]
    assert (dispatch.live, dispatch.waiting) == (2, 1)
    assert (dispatch.live_by_model, dispatch.waiting_by_model) == ({"m": 2}, {"m": 1})
    engine.finish(dispatch, "a", 1)
    assert engine.painted()[-1] == ("a", 2)
    engine.finish(dispatch, "a", 0)
    engine.finish(dispatch, "a", 2)
    assert [event.index for event in ends(ticket)] == [1, 0, 2]


def test_inputs_go_once_per_worker_and_are_released_at_the_end() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    dispatch.submit(job("a", 2, "edit"), "ann", [BLANK])
    assert [type(command) for command in engine.sent] == [Attach, Paint, Paint]
    engine.finish(dispatch, "a", 0)
    engine.finish(dispatch, "a", 1)
    assert engine.sent[-1] == Release("a")


def test_after_a_death_all_are_painted_again_alone() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    first = dispatch.submit(job("a"), "ann")
    second = dispatch.submit(job("b"), "bob")
    engine.die(dispatch)
    third = dispatch.submit(job("c"), "bob")
    assert engine.live == [("a", 0)]
    engine.finish(dispatch, "a", 0)
    assert engine.live == [("b", 0)]
    engine.finish(dispatch, "b", 0)
    assert engine.live == [("c", 0)]
    engine.finish(dispatch, "c", 0)
    for ticket in (first, second, third):
        assert [type(event) for event in ends(ticket)] == [Finished]


def test_attachments_are_sent_again_to_a_new_worker() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    dispatch.submit(job("a", 1, "edit"), "ann", [BLANK])
    engine.die(dispatch)
    assert [type(command) for command in engine.sent] == [Attach, Paint, Attach, Paint]


def test_a_second_death_fails_the_canvas() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a"), "ann")
    engine.die(dispatch)
    engine.die(dispatch)
    (event,) = ends(ticket)
    assert isinstance(event, Failed)
    assert event.fault.kind == "worker_died"


def test_delivered_images_are_not_painted_again() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    dispatch.submit(job("a", 2), "ann")
    engine.finish(dispatch, "a", 0)
    engine.die(dispatch)
    assert engine.painted() == [("a", 0), ("a", 1), ("a", 1)]


def test_cancelling_empties_the_backlog_and_tells_the_worker() -> None:
    engine = Script(canvases=1)
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a", 3), "ann")
    dispatch.cancel(ticket)
    assert dispatch.waiting == 0
    assert engine.sent[-1] == Cancel("a", 0)
    engine.obey_cancels(dispatch)
    assert sorted(event.index for event in ends(ticket)) == [0, 1, 2]


def test_what_was_cancelled_is_not_painted_again_after_a_death() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a"), "ann")
    dispatch.cancel(ticket)
    engine.die(dispatch)
    assert [type(event) for event in ends(ticket)] == [Cancelled]
    assert engine.live == []


def test_a_slow_reader_gets_the_newest_step_and_every_ending_after_its_last() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a", 2), "ann")
    for step in range(1, 50):
        dispatch.heard(engine, Step("a", 0, step, 50))
        dispatch.heard(engine, Step("a", 1, step, 50))
    engine.finish(dispatch, "a", 1)

    async def read() -> list[object]:
        async with asyncio.timeout(5):
            return [await anext(ticket) for _ in range(3)]

    last, finished, step = asyncio.run(read())
    assert last == Step("a", 1, 49, 50)
    assert isinstance(finished, Finished)
    assert step == Step("a", 0, 49, 50)


def test_what_cannot_be_served_is_refused_at_once() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(2))
    with pytest.raises(Unprocessable, match="does not do the task inpaint; it does: generate"):
        dispatch.submit(job("a", 1, "inpaint"), "ann")
    engine.failures["bad"] = "no such file"
    with pytest.raises(ModelFailed, match="no such file"):
        dispatch.submit(job("a", 1, model="bad"), "ann")
    with pytest.raises(Overloaded) as refused:
        dispatch.submit(job("a", 3), "ann")
    assert refused.value.retry_after


def test_those_who_wait_for_a_model_that_fails_to_load_are_told() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a", 2, model="late"), "ann")
    engine.failures["late"] = "truncated"
    dispatch.heard(engine, LoadFailed("late", "truncated"))
    assert [event.fault.kind for event in ends(ticket)] == ["load_failed"] * 2


def test_what_waits_for_a_model_that_failed_is_told_even_if_the_worker_dies_of_it() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    ticket = dispatch.submit(job("a", 3, model="x"), "ann")
    assert engine.painted() == [("a", 0), ("a", 1), ("a", 2)]
    engine.failures["x"] = "truncated"
    dispatch.heard(engine, LoadFailed("x", "truncated"))
    engine.die(dispatch)
    assert [event.fault.kind for event in ends(ticket)] == ["load_failed"] * 3
    assert dispatch.waiting == 0


def test_while_a_model_is_loaded_only_what_is_for_it_is_sent() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    dispatch.submit(job("new", 1, model="x"), "ann")
    dispatch.submit(job("old", 1), "bob")
    dispatch.submit(job("too", 1, model="x"), "eve")
    assert engine.painted() == [("new", 0), ("too", 0)]
    engine.resident.clear()
    dispatch.heard(engine, Evicted("m"))
    engine.resident.add("x")
    dispatch.heard(engine, Loaded("x", TASKS, 0.1, (), 1))
    assert len(engine.painted()) == 2
    engine.finish(dispatch, "new", 0)
    assert len(engine.painted()) == 2  # m would have to be loaded, and the worker is not empty
    engine.finish(dispatch, "too", 0)
    assert engine.painted()[-1] == ("old", 0)


def test_nothing_is_sent_past_what_waits_at_the_worker_for_its_model() -> None:
    engine = Script()
    dispatch = Dispatch([engine], Backlog(9))
    dispatch.submit(job("held", 1), "ann")
    engine.resident = {"x"}  # m was given up before the worker saw it
    dispatch.heard(engine, Evicted("m"))
    dispatch.submit(job("other", 1, model="x"), "bob")
    assert engine.painted() == [("held", 0)]
    engine.resident = {"m", "x"}
    dispatch.heard(engine, Loaded("m", TASKS, 0.1, (), 1))
    assert engine.painted()[-1] == ("other", 0)


def test_closing_cancels_and_refuses() -> None:
    async def scenario() -> Ticket:
        engine = Script()
        dispatch = Dispatch([engine], Backlog(9))
        running = asyncio.create_task(dispatch.run())
        ticket = dispatch.submit(job("a", 6), "ann")
        await dispatch.close()
        with pytest.raises(ShuttingDown):
            dispatch.submit(job("b"), "ann")
        engine.obey_cancels(dispatch)
        await running
        return ticket

    assert {type(event) for event in ends(asyncio.run(scenario()))} == {Cancelled}


def numbered() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


actions = st.lists(
    st.tuples(
        st.sampled_from(["submit", "finish", "fail", "cancel", "obey", "die"]), st.integers(0, 9)
    ),
    max_size=60,
)


@given(actions)
@settings(max_examples=200, deadline=None)
def test_every_canvas_ends_exactly_once(script: list[tuple[str, int]]) -> None:
    engines = [Script("e0", 3), Script("e1", 2)]
    dispatch = Dispatch(engines, Backlog(10_000))
    tickets: list[Ticket] = []
    names = numbered()
    deaths = 0
    for action, number in script:
        engine = engines[number % 2]
        live = engine.live[number % len(engine.live)] if engine.live else None
        match action:
            case "submit":
                tickets.append(dispatch.submit(job(f"j{next(names)}", 1 + number % 3), "ann"))
            case "finish" if live:
                engine.finish(dispatch, *live)
            case "fail" if live:
                engine.live.remove(live)
                dispatch.heard(engine, Failed(*live, Fault("internal")))
            case "cancel" if tickets:
                dispatch.cancel(tickets[number % len(tickets)])
            case "obey":
                engine.obey_cancels(dispatch)
            case "die":
                deaths += 1
                engine.die(dispatch)
            case _:
                pass
    while dispatch.live:
        for engine in engines:
            for key in list(engine.live):
                engine.finish(dispatch, *key)
    assert dispatch.waiting == 0
    for ticket in tickets:
        events = [event for event in ends(ticket) if not isinstance(event, Step)]
        indexes = sorted(event.index for event in events)
        assert indexes == list(range(len(ticket.job.seeds)))
    if not deaths:
        assert all(sent.count(key) == 1 for e in engines for sent in [e.painted()] for key in sent)
