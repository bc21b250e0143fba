"""A handle on a real worker process: it starts, is replaced when it dies or hangs, and ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import psutil
import pytest

from models import launch
from models.contract import AnyEvent, Finished, Job, LoadFailed, ModelSpec, Paint, WorkerSpec
from server.jobs import engine as engine_module
from server.jobs.engine import Engine, LocalEngine

TOY = ModelSpec(id="toy", family="toy", width=8, height=8)
STUCK = ModelSpec(id="stuck", family="toy", path="stuck", width=8, height=8)
BROKEN = ModelSpec(id="broken", family="toy", path="broken", width=8, height=8)
JOB = Job(
    id="j",
    model="toy",
    task="generate",
    prompt="owl",
    width=8,
    height=8,
    steps=2,
    guidance=1.0,
    seeds=(1,),
)


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.losses = 0

    def heard(self, engine: Engine, event: AnyEvent) -> None:
        self.events.append(event)

    def lost(self, engine: Engine) -> None:
        self.losses += 1


@pytest.fixture(scope="module", autouse=True)
def preload() -> None:
    launch.prepare({"toy"}, threads=1)


def drive(
    story: Callable[[LocalEngine, Ear], Awaitable[None]],
    *models: ModelSpec,
    start_seconds: float = 30,
) -> Ear:
    """Run an engine through a story, then stop it."""

    async def scenario() -> Ear:
        ear = Ear()
        spec = WorkerSpec(name="test", device="cpu", models=models or (TOY,))
        engine = LocalEngine(spec, start_seconds)
        running = asyncio.create_task(engine.run(ear))
        try:
            await story(engine, ear)
        finally:
            await engine.stop()
            await asyncio.wait_for(running, 10)
        assert engine.state == "stopped"
        return ear

    return asyncio.run(scenario())


async def until(what: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


def workers() -> list[psutil.Process]:
    """The worker processes that exist, however they were forked."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.cmdline()[:1] == ["limner worker cpu"]]


def test_it_starts_and_serves() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        assert engine.state == "starting"
        await until(lambda: engine.state == "ready")
        assert engine.models == {"toy": ("generate", "edit", "inpaint")}
        assert engine.canvases >= 4
        engine.send(Paint(JOB, 0))
        await until(lambda: isinstance(ear.events[-1], Finished))

    assert drive(story).losses == 1  # the end is told as well
    assert not workers()


def test_a_killed_worker_is_replaced_at_once() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        await until(lambda: engine.state == "ready")
        (worker,) = workers()
        worker.kill()
        await until(lambda: ear.losses == 1)
        assert engine.canvases == 0
        assert engine.models == {}
        await until(lambda: engine.state == "ready", 5)
        assert workers() != [worker]

    drive(story)


def test_what_dies_again_and_again_is_restarted_ever_more_slowly() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        began = time.monotonic()
        for _ in range(3):
            await until(lambda: engine.state == "ready")
            workers()[0].kill()
            await until(lambda: engine.state != "ready")
        await until(lambda: engine.state == "ready")
        assert time.monotonic() - began > 3  # none, one and two seconds of waiting

    drive(story)


def test_after_some_false_starts_those_who_wait_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(spec: WorkerSpec) -> None:
        raise EOFError  # what a forkserver that dies of a broken library looks like

    monkeypatch.setattr(launch, "start", broken)

    async def story(engine: LocalEngine, ear: Ear) -> None:
        await until(lambda: ear.events)
        assert "before it was ready" in engine.failures["toy"]
        assert [event.model for event in ear.events] == ["toy"]
        monkeypatch.undo()
        await until(lambda: engine.state == "ready")
        assert engine.failures == {}

    drive(story)


def test_a_stop_during_the_wait_before_a_restart_is_prompt() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        for losses in range(1, 5):
            await until(lambda: engine.state == "ready" or ear.losses >= 3)
            if ear.losses >= 3:
                break
            workers()[0].kill()
            await until(lambda losses=losses: ear.losses == losses)
        began.append(time.monotonic())

    began: list[float] = []
    drive(story)
    assert time.monotonic() - began[0] < 1.5


def test_a_worker_that_never_gets_ready_is_replaced() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        await until(lambda: ear.losses == 1)
        assert engine.state != "ready"

    drive(story, STUCK, start_seconds=1.0)


def test_a_model_that_fails_is_known_and_the_others_serve() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        await until(lambda: engine.state == "ready")
        assert engine.failures == {"broken": "ValueError: this toy is broken"}
        assert list(engine.models) == ["toy"]

    drive(story, BROKEN, TOY)


def test_stopping_in_the_middle_of_a_start_leaves_nothing_behind() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        await asyncio.sleep(0.05)

    drive(story, STUCK)
    time.sleep(0.2)
    assert not workers()


def later(model: ModelSpec) -> ModelSpec:
    """The same, loaded when it is asked for."""
    return msgspec.structs.replace(model, preload=False)


def ask(model: str) -> Paint:
    return Paint(msgspec.structs.replace(JOB, model=model), 0)


def test_a_model_that_failed_when_asked_for_may_be_asked_again_some_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "RETRY_SECONDS", 0.3)

    async def story(engine: LocalEngine, ear: Ear) -> None:
        await until(lambda: engine.state == "ready")
        engine.send(ask("broken"))
        await until(lambda: "broken" in engine.failures)
        assert "broken" not in engine.offered
        await until(lambda: "broken" in engine.offered, 2)

    drive(story, TOY, later(BROKEN))


def test_a_model_whose_loading_never_ends_is_given_up_and_the_others_go_on() -> None:
    async def story(engine: LocalEngine, ear: Ear) -> None:
        for _ in range(engine_module.LOAD_TRIES):
            await until(lambda: engine.state == "ready")
            losses = ear.losses
            engine.send(ask("stuck"))
            await until(lambda before=losses: ear.losses > before)
        assert "ended 2 workers" in engine.failures["stuck"]
        assert LoadFailed("stuck", engine.failures["stuck"]) in ear.events
        await until(lambda: engine.state == "ready")
        assert engine.offered == {"toy"}
        engine.send(ask("toy"))
        await until(lambda: isinstance(ear.events[-1], Finished))

    drive(story, TOY, later(STUCK), start_seconds=1)
