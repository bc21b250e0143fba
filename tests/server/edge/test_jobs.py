"""Following jobs: what recorders hear of a request, the events that come of it, and their route."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from server.edge import jobs, web
from server.errors import Gone, OutOfMemory, Overloaded
from server.history import news
from server.history.database import Database
from server.history.news import News
from server.history.store import Store
from server.jobs.errands import Errands
from server.jobs.recorder import End, Telling
from tests.server.history.test_store import end, entry, tell

ID = "0123456789abcdef" * 2
HYPHENED = "01234567-89ab-cdef-0123-456789abcdef"


class Notebook:
    """A recorder that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple] = []
        self.end: End | None = None

    def admitted(self, entry, account, at) -> None:
        self.heard.append(("admitted", entry.id, account))

    def progressed(self, name, index, step, steps) -> None:
        self.heard.append(("progressed", name, index, step, steps))

    def painted(self, name, index, seed) -> None:
        self.heard.append(("painted", name, index, seed))

    def ended(self, name, end) -> None:
        self.heard.append(("ended", name))
        self.end = end


# -- Telling --------------------------------------------------------------------------------------


def told(*, error: BaseException | None = None, painted: int = 0, missed: int = 0) -> End:
    notebook = Notebook()
    telling = Telling([notebook], entry(ID), "local")
    with suppress(*([type(error)] if error else [])), telling:
        for index in range(painted):
            telling.painted(index)
        if painted or missed:
            telling.resulted([OutOfMemory("no room")] * missed, {"total": 1.0})
        if error:
            raise error
    assert [word[0] for word in notebook.heard].count("ended") == 1
    assert notebook.end is not None
    return notebook.end


def test_every_recorder_hears_the_same_in_order():
    books = [Notebook(), Notebook()]
    with Telling(books, entry(ID), "ann") as telling:
        telling.progressed(0, 1, 4)
        telling.painted(1)
        telling.resulted([], {})
    assert books[0].heard == books[1].heard
    assert books[0].heard == [
        ("admitted", ID, "ann"), ("progressed", ID, 0, 1, 4), ("painted", ID, 1, 8),
        ("ended", ID),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "state", "code"),
    [
        ({"painted": 2}, "completed", ""),
        ({"painted": 1, "missed": 1}, "completed", "insufficient_memory"),
        ({"missed": 2}, "failed", "insufficient_memory"),
        ({"painted": 2, "error": Overloaded("keeping it failed")}, "failed", "overloaded"),
        ({"painted": 2, "error": Gone("read too slowly")}, "completed", ""),
        ({}, "cancelled", ""),
        ({"error": Gone("read too slowly")}, "cancelled", ""),
        ({"error": asyncio.CancelledError()}, "cancelled", ""),
        ({"error": GeneratorExit()}, "cancelled", ""),
        ({"error": RuntimeError("a bug")}, "failed", "internal_error"),
    ],
)
def test_how_a_request_ended(how, state: str, code: str):
    ending = told(**how)
    assert (ending.state, ending.code, ending.painted) == (state, code, how.get("painted", 0))


# -- Events ---------------------------------------------------------------------------------------


def numbers(tale: news.Tale, after: int = 0) -> list[int]:
    async def run() -> list[int]:
        return [event.number async for event in tale.after(after)]

    return asyncio.run(run())


def test_the_oldest_events_of_a_long_job_are_forgotten_and_never_the_last():
    paper = News()
    paper.admitted(entry(ID), "local", 1.0)
    for step in range(999):
        paper.progressed(ID, 0, step, 999)
    paper.ended(ID, end())
    tale = paper.of(ID)
    assert tale is not None
    assert numbers(tale) == list(range(1001 - news.EVENTS + 1, 1002))
    assert tale.events[-1].name == "completed"
    assert numbers(tale, 1000) == [1001]


def test_jobs_are_forgotten_ten_minutes_after_their_end_and_the_oldest_of_many_before():
    now = [0.0]
    paper = News(lambda: now[0])
    paper.admitted(entry("running"), "local", 1.0)
    for i in range(news.JOBS + 5):
        paper.admitted(entry(f"{i}"), "local", 1.0)
        paper.ended(f"{i}", end())
    assert paper.of("4") is None
    assert paper.of("5") is not None
    now[0] = news.KEEP_SECONDS
    assert paper.of("5") is None
    assert not paper._over
    assert paper.of("running") is not None


def test_followers_hear_what_comes_and_end_with_the_job():
    async def run() -> tuple[list[str], list[str]]:
        paper = News()
        paper.admitted(entry(ID), "local", 1.0)
        tale = paper.of(ID)
        assert tale is not None

        async def follow() -> list[str]:
            return [event.name async for event in tale.after(0)]

        early = asyncio.create_task(follow())
        await asyncio.sleep(0)
        for step in range(3):
            paper.progressed(ID, 0, step, 3)
            await asyncio.sleep(0.01 * (step % 2))
        late = asyncio.create_task(follow())
        paper.ended(ID, end(state="failed", code="worker_died"))
        return await early, await late

    early, late = asyncio.run(run())
    assert early == late == ["pending", *["progress"] * 3, "failed"]


# -- The route ------------------------------------------------------------------------------------


@pytest.fixture
def paper() -> News:
    return News()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Database(tmp_path / "limner.db"), days=1, keep_prompts=False)


def ask(paper: News, store: Store, name: str = ID, **headers: str) -> httpx2.Response:
    app = FastAPI()
    app.include_router(jobs.build(paper, store))
    web.install(app, web.plain)

    async def talk() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(f"/jobs/{name}/events", headers=headers)

    return asyncio.run(talk())


@pytest.mark.parametrize("name", [ID, HYPHENED, HYPHENED.upper()])
def test_a_finished_job_is_replayed(paper: News, store: Store, name: str):
    for recorder in (paper, store):
        tell(recorder, ID, 1.0)
    answer = ask(paper, store, name)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text == (
        'id: 1\nevent: pending\ndata: {"status":"pending","model":"toy","images":2,'
        '"width":128,"height":96}\n\n'
        'id: 2\nevent: progress\ndata: {"status":"processing","index":0,"step":1,"steps":4}\n\n'
        'id: 3\nevent: completed\ndata: {"status":"completed","painted":2,'
        '"seconds":{"queue":0.1,"paint":0.2,"total":0.3}}\n\n'
    )


def test_what_was_seen_is_left_out(paper: News, store: Store):
    tell(paper, ID, 1.0)
    later = ask(paper, store, **{"Last-Event-ID": "2"})
    assert later.text.startswith("id: 3\n")
    for seen in ("3", "99"):
        answer = ask(paper, store, **{"Last-Event-ID": seen})
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("seen", ["x", "-1", "1.5", "9" * 30])
def test_last_event_ids_that_are_none(paper: News, store: Store, seen: str):
    tell(paper, ID, 1.0)
    answer = ask(paper, store, **{"Last-Event-ID": seen})
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.json()["error"]["message"]


def test_jobs_of_which_nothing_is_known_any_more_or_at_all(paper: News, store: Store):
    tell(store, ID, 1.0)
    assert ask(paper, store).status_code == 410
    assert ask(paper, store, "0" * 32).status_code == 404
    assert ask(paper, store, "x").status_code == 404


# -- Errands --------------------------------------------------------------------------------------


def test_errands_outlast_who_waits_and_end_with_the_server(caplog: pytest.LogCaptureFixture):
    done: list[str] = []

    async def work(name: str, seconds: float, error: Exception | None = None) -> None:
        try:
            await asyncio.sleep(seconds)
            if error:
                raise error
            done.append(name)
        except asyncio.CancelledError:
            done.append(f"{name} cancelled")
            raise

    async def run() -> None:
        async with Errands(0.1) as errands:
            first = errands.start(work("first", 0.02))
            waiting = asyncio.create_task(asyncio.wait_for(asyncio.shield(first), 9))
            await asyncio.sleep(0)
            waiting.cancel()
            errands.start(work("refused", 0, Overloaded("later")))
            errands.start(work("broken", 0, RuntimeError("a bug")))
            errands.start(work("long", 60))
            await asyncio.sleep(0.05)
            errands.start(work("late", 0.02))
        assert not errands._running

    asyncio.run(run())
    assert done == ["first", "late", "long cancelled"]
    assert "a bug" in caplog.text
    assert "later" not in caplog.text
