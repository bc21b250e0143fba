"""The rows of requests, in real files: from empty, all at once, after crashes, when all fails."""

import asyncio
import logging
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from models.contract import Job
from server.errors import Unstored
from server.history import store as store_module
from server.history.database import HEAD, MIGRATIONS, Database, file_of
from server.history.schema import METADATA
from server.history.store import INTERRUPTED, Store
from server.jobs.intake import Draft, Order
from server.jobs.recorder import End, Entry
from server.sizes import Size
from tests.server.waiting import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows" / "limner.db"


def entry(name: str, dialect: str = "aimo") -> Entry:
    draft = Draft(dialect=dialect, task="generate", model="toy", prompt="a secret owl")
    job = Job(
        id=name, model="toy", task="generate", prompt="a secret owl", width=64, height=48,
        steps=4, guidance=3.5, seeds=(7, 8),
    )  # fmt: skip
    return Entry.of(Order(draft=draft, job=job, output=Size(128, 96), notices=()))


def end(at: float = 3.0, state: str = "completed", code: str = "") -> End:
    seconds = {"queue": 0.1, "paint": 0.2, "total": 0.3}
    return End(state=state, code=code, at=at, painted=2, seconds=seconds)


def kept(file: Path, **how: object) -> Store:
    return Store(Database(file), **({"days": 30, "keep_prompts": False} | how))


def rows(file: Path, what: str = "id, state, outcome", tail: str = "ORDER BY id") -> list[tuple]:
    with sqlite3.connect(file) as connection:
        found = connection.execute(f"SELECT {what} FROM jobs {tail}").fetchall()
    connection.close()
    return found


@asynccontextmanager
async def reopened(file: Path, **how: object) -> AsyncIterator[Store]:
    store = kept(file, **how)
    async with store.running():
        assert await store.flush()
        yield store


def tell(store: Store, name: str, at: float, *, dialect: str = "aimo", over: bool = True) -> None:
    store.admitted(entry(name, dialect), "local", at)
    store.progressed(name, 0, 1, 4)
    if over:
        store.ended(name, end(at + 1))


# -- Rows -----------------------------------------------------------------------------------------


def test_a_row_says_what_was_painted_and_comes_back_as_it_was(file: Path):
    async def run() -> None:
        async with reopened(file) as store:
            tell(store, "a", time.time())
            store.admitted(entry("b"), "local", time.time())
            store.answered("b", {"files": [["x", 1]]}, "k" * 64, "f" * 64)
            known = [await store.get("a"), await store.get("b")]
        async with reopened(file) as store:
            b = replace(known[1], state="failed", outcome=INTERRUPTED)  # nobody ended it
            assert await store.get("a") == known[0]
            assert replace(await store.get("b"), finished=None) == b
            assert (await store.under("k" * 64)).id == "b"
            assert await store.under("x") is None
            assert await store.get("c") is None

    asyncio.run(run())
    [row] = rows(file, "*", "WHERE id = 'a'")
    assert {"local", "aimo", "toy", "completed", "[7, 8]", 128, 96, 64, 48, 3.5, 0.3} <= {*row}
    assert "owl" not in str(rows(file, "*"))


def test_a_row_of_what_was_not_painted(file: Path):
    wish = Entry(
        id="a", dialect="venice", model="lanczos", task="enlarge",
        output=Size(20, 40), painted=Size(10, 20),
    )  # fmt: skip

    async def story() -> None:
        async with reopened(file) as store:
            store.admitted(wish, "local", time.time())
            store.painted("a", 0, None)
            store.ended("a", end())
            assert await store.flush()
            found = await store.get("a")
        assert found is not None
        assert (found.task, found.width, found.paint_height) == ("enlarge", 20, 20)
        assert (found.state, found.seeds, found.steps) == ("completed", (), 0)

    asyncio.run(story())


def test_prompts_are_kept_if_asked(file: Path):
    async def run() -> None:
        async with reopened(file, keep_prompts=True) as store:
            tell(store, "a", time.time())

    asyncio.run(run())
    assert rows(file, "prompt") == [("a secret owl",)]


def test_states_follow_the_request(file: Path):
    async def run() -> list[str]:
        states: list[str] = []

        async def look() -> None:
            states.append((await store.get("a")).state)
            await store.flush()
            states.append(rows(file, "state")[0][0])

        async with reopened(file) as store:
            store.admitted(entry("a"), "local", time.time())
            await look()
            store.progressed("a", 0, 1, 4)
            await look()
            store.ended("a", end(state="cancelled"))
            await look()
        return states

    assert asyncio.run(run()) == ["pending"] * 2 + ["processing"] * 2 + ["cancelled"] * 2


def test_the_newest_are_listed_written_or_not(file: Path):
    async def run() -> None:
        async with reopened(file) as store:
            for i in range(6):
                tell(store, f"{i}", time.time() + i, dialect="aimo" if i % 2 else "depicta")
                if i == 3:
                    await store.flush()
            newest = await store.latest("depicta", 2, 0)
            assert [each.id for each in newest] == ["4", "2"]
            assert [each.id for each in await store.latest("depicta", 2, 2)] == ["0"]
            assert not await store.latest("depicta", 2, 3)

    asyncio.run(run())


def test_writing_waits_for_no_one_and_no_one_for_it(file: Path):
    async def run() -> float:
        async with reopened(file) as store:
            began = time.perf_counter()
            for i in range(500):
                tell(store, f"{i:03}", time.time())
            took = time.perf_counter() - began
            await until(lambda: not store._unwritten)
            assert not store._known
        return took

    assert asyncio.run(run()) < 0.5
    assert len(rows(file)) == 500


def test_what_is_noted_while_it_is_written_is_written_next(file: Path):
    async def run() -> None:
        async with reopened(file) as store:
            thief = sqlite3.connect(file, isolation_level=None)
            thief.execute("BEGIN IMMEDIATE")
            store.admitted(entry("a"), "local", time.time())
            writing = asyncio.create_task(store.flush())
            await asyncio.sleep(0.2)
            store.ended("a", end())
            thief.close()
            assert await writing

    asyncio.run(run())
    assert rows(file) == [("a", "completed", "")]


def test_old_rows_go(file: Path):
    now = time.time()

    async def run() -> None:
        async with reopened(file) as store:
            tell(store, "old", now - 3 * 86400)
            tell(store, "new", now - 1 * 86400)
        async with reopened(file, days=2):
            pass

    asyncio.run(run())
    assert [row[0] for row in rows(file)] == ["new"]


# -- The file -------------------------------------------------------------------------------------


def test_migrations_lead_to_the_tables_that_the_code_knows(file: Path):
    async def run() -> None:
        async with reopened(file):
            pass
        async with reopened(file):  # and once more there is nothing to do
            pass

    asyncio.run(run())
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []
        assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()
    assert file.parent.stat().st_mode & 0o077 == 0


def test_where_the_file_is(tmp_path: Path):
    assert file_of("limner.db", tmp_path) == tmp_path / "limner.db"
    assert file_of("sqlite:///sub/x.db", tmp_path) == tmp_path / "sub/x.db"
    assert file_of("sqlite:////var/x.db", tmp_path) == Path("/var/x.db")
    assert file_of("sqlite:///~/x.db", tmp_path) == Path.home() / "x.db"


CRASH = """
import asyncio, os, sys, time
from pathlib import Path
from tests.server.history.test_store import end, entry, kept, tell

async def run():
    store = kept(Path(sys.argv[1]))
    async with store.running():
        tell(store, "done", time.time())
        tell(store, "half", time.time(), over=False)
        store.admitted(entry("waiting"), "local", time.time())
        assert await store.flush()
        if sys.argv[2] == "stay":
            print("there", flush=True)
            await asyncio.sleep(60)
        os._exit(9)

asyncio.run(run())
"""


def crash(file: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CRASH, str(file), how]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_what_a_dead_server_left_has_failed(file: Path, caplog: pytest.LogCaptureFixture):
    with crash(file, "die") as child:
        assert child.wait(30) == 9

    async def run() -> None:
        async with reopened(file) as store:
            half = await store.get("half")
            assert (half.state, half.outcome) == ("failed", INTERRUPTED)
            assert half.finished is not None

    asyncio.run(run())
    assert rows(file) == [
        ("done", "completed", ""), ("half", "failed", INTERRUPTED),
        ("waiting", "failed", INTERRUPTED),
    ]  # fmt: skip
    assert "2 jobs were interrupted" in caplog.text


def test_what_another_server_is_at_work_on_is_left_alone(file: Path):
    with crash(file, "stay") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "there\n"

        async def run() -> None:
            async with reopened(file) as store:
                assert (await store.get("half")).state == "processing"
                tell(store, "ours", time.time())

        asyncio.run(run())
        child.kill()
    assert ("ours", "completed", "") in rows(file)


def test_many_servers_write_at_once(file: Path):
    async def run() -> None:
        async with reopened(file) as one, reopened(file) as two, reopened(file) as three:
            for i in range(60):
                for name, store in (("one", one), ("two", two), ("three", three)):
                    tell(store, f"{name}-{i}", time.time())
                await asyncio.sleep(0.002)

    asyncio.run(run())
    assert len(rows(file)) == 180
    assert {row[1] for row in rows(file)} == {"completed"}


# -- A database that fails ------------------------------------------------------------------------


async def troubled(store: Store) -> None:
    """Told, and of no other effect."""
    await until(lambda: store.trouble)
    tell(store, "a", time.time())
    store.answered("a", {"x": 1}, "", "")
    assert (await store.get("a")).state == "completed"
    with pytest.raises(Unstored):
        await store.get("b")
    with pytest.raises(Unstored):
        await store.latest("aimo", 9, 0)


@pytest.mark.parametrize("what", ["a folder", "no folder", "no database", "newer"])
def test_a_file_that_cannot_be_one(file: Path, what: str, caplog: pytest.LogCaptureFixture):
    if what == "no folder":
        file.parent.write_text("a file where its folder would be")
    elif what == "a folder":
        file.mkdir(parents=True)
    elif what == "newer":
        file.parent.mkdir()
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.close()
    else:
        file.parent.mkdir()
        file.write_bytes(b"no database at all" * 999)

    async def run() -> None:
        store = kept(file)
        async with store.running():
            await troubled(store)

    began = time.perf_counter()
    asyncio.run(run())
    assert time.perf_counter() - began < 5
    assert str(file) in caplog.text


READ_ONLY = """
import asyncio, os, sys, time
from pathlib import Path
from server.errors import Unstored
from tests.server.history.test_store import kept, tell, until

store = kept(Path(sys.argv[1]))

async def run():
    await asyncio.to_thread(int)  # what is imported late is imported now
    if os.geteuid() == 0:
        os.setuid(65534)  # root writes what is read-only
    async with store.running():
        await until(lambda: store.trouble)
        tell(store, "a", time.time())
        assert (await store.get("a")).state == "completed"
        try:
            await store.get("b")
        except Unstored:
            os._exit(7)

asyncio.run(run())
"""


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_is_read_only(closed: str):
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "limner.db"

        async def run() -> None:
            async with reopened(file):
                pass

        asyncio.run(run())
        for each in Path(name).iterdir():
            each.chmod(0o444)
        Path(name).chmod(0o777 if closed == "file" else 0o555)
        file.with_name("limner.db.lock").chmod(0o666 if closed == "file" else 0o444)
        child = subprocess.run([sys.executable, "-c", READ_ONLY, str(file)], cwd=ROOT, timeout=60)
        assert child.returncode == 7


def test_a_full_disk_is_got_over(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.05)
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with reopened(file) as store:
            async with store._database.writing.begin() as connection:
                pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
                await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for i in range(200):
                tell(store, f"{i}", time.time())
            await until(lambda: store.trouble)
            assert len(store._known) == 200
            async with store._database.writing.begin() as connection:
                await connection.exec_driver_sql("PRAGMA max_page_count = 100000")
            await until(lambda: not store.trouble)

    asyncio.run(run())
    assert len(rows(file)) == 200
    assert caplog.text.count("disk is full") == 1  # said once, not at each try
    assert "recorded again" in caplog.text
    assert "owl" not in caplog.text


def test_a_bug_in_writing_is_told(file: Path, caplog: pytest.LogCaptureFixture):
    async def run() -> None:
        store = kept(file)
        store._known["x"] = None
        store._unwritten["x"] = None
        async with store.running():
            await until(lambda: store.trouble)

    asyncio.run(run())
    assert "recording has stopped" in caplog.text


def test_a_lock_that_stays_delays_no_picture(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "CLOSE_SECONDS", 0.3)

    async def run() -> None:
        async with reopened(file) as store:
            thief = sqlite3.connect(file, isolation_level=None)
            thief.execute("BEGIN EXCLUSIVE")
            began = time.perf_counter()
            tell(store, "a", time.time())
            await asyncio.sleep(0.3)
            assert (await store.get("a")).state == "completed"
            assert await store.get("b") is None  # readers wait for no writer
            assert time.perf_counter() - began < 1
            thief.close()

    asyncio.run(run())
    assert len(rows(file)) == 1


def test_memory_is_bounded_while_nothing_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(store_module, "UNWRITTEN", 50)
    file.mkdir(parents=True)

    async def run() -> None:
        store = kept(file)
        async with store.running():
            store.admitted(entry("running"), "local", time.time())
            for i in range(80):
                tell(store, f"{i}", time.time())
            assert len(store._known) == 50
            assert (await store.get("running")).state == "pending"
            assert (await store.get("79")).state == "completed"

    asyncio.run(run())
    assert "was never recorded" in caplog.text
