"""The store of results: one suite for a folder and for a bucket of a real S3 server."""

import asyncio
import hashlib
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.errors import Expired, Forbidden, Unstored
from server.results.artifacts import LINK_SECONDS, Artifact, Artifacts
from server.results.links import kept_key
from server.results.shelf import Shelf, ShelfFault
from tests.server.waiting import until

HOUR = 3600
DAY = 24 * HOUR
KEY = "k" * 64
PNG = b"\x89PNG" + bytes(1000)


class Clock:
    """Unix seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server of its own process; where it is."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1"]
    environment = {**os.environ, "PYTHONPATH": ""}
    server = subprocess.Popen(
        [*command, "-p", str(port)], stderr=subprocess.DEVNULL, env=environment
    )
    try:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert server.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server is not up"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["folder", "bucket"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    if request.param == "folder":
        return Shelf((tmp_path / "data" / "artifacts").as_uri())
    endpoint = request.getfixturevalue("s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = "b" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
    made = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    with urllib.request.urlopen(made, timeout=10):
        return Shelf(f"s3://{bucket}/some/where", endpoint)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def store(shelf: Shelf, clock: Clock, *, hours: float = 24, quota: int = 10**9) -> Artifacts:
    return Artifacts(shelf, lambda: [KEY], hours=hours, quota=quota, clock=clock)


def verified(artifacts: Artifacts, path: str) -> tuple[Artifact, int]:
    found = re.fullmatch(r"/files/(.+)\?expires=(\d+)&signature=([\w-]+)", path)
    assert found
    return artifacts.verify(*found.groups())


def test_what_is_put_is_read(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock)
        big = os.urandom(3 * 2**20 + 7)
        for data, mime in ((PNG, "image/png"), (big, "image/webp"), (b"x", "image/jpeg")):
            artifact = await artifacts.put(data, mime)
            assert artifact == Artifact.called(artifact.id)
            assert artifact.sha256 == hashlib.sha256(data).hexdigest()
            assert (artifact.mime, artifact.born) == (mime, int(clock.now))
            assert await artifacts.read(artifact.id) == data
            assert await artifacts.size(artifact.id) == len(data)
            opened = await artifacts.open(artifact.id)
            pieces = [piece async for piece in opened.pieces]
            assert (opened.size, b"".join(pieces)) == (len(data), data)
            assert max(map(len, pieces)) <= 2**20
            assert await store(shelf, clock).read(artifact.id) == data  # after a restart

    asyncio.run(story())


def test_equal_bytes_are_two_artifacts(shelf: Shelf):
    async def story() -> None:
        artifacts = store(shelf, Clock())
        one, two = [await artifacts.put(PNG, "image/png") for _ in range(2)]
        assert one.id != two.id
        assert one.sha256 == two.sha256

    asyncio.run(story())


def test_what_is_not_there_is_gone(shelf: Shelf):
    async def story() -> None:
        artifacts = store(shelf, Clock())
        never = Artifact.of(PNG, "image/png", 1_800_000_000).id
        for read in (artifacts.read, artifacts.size, artifacts.open):
            with pytest.raises(Expired):
                await read(never)
        await artifacts.put(PNG, "image/png")
        for read in (artifacts.read, artifacts.size, artifacts.open):
            with pytest.raises(Expired):
                await read(never)

    asyncio.run(story())


@pytest.mark.parametrize("id_", ["", "a", "../../etc/passwd", "x.png", "0" * 110])
def test_what_is_no_id(id_: str, tmp_path: Path):
    artifacts = store(Shelf(tmp_path.as_uri()), Clock())
    with pytest.raises(ValueError, match="no id"):
        artifacts.sign(id_)


# -- Links ----------------------------------------------------------------------------------------


def test_links_last_an_hour_and_are_signed_anew(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock)
        artifact = await artifacts.put(PNG, "image/png")
        born = clock.now
        for hours in (0, 5, 22.9):
            clock.now = born + hours * HOUR
            link = artifacts.sign(artifact.id)
            assert link.expires == int(clock.now + LINK_SECONDS)
            assert verified(artifacts, link.path) == (artifact, HOUR - 1)
            clock.now += HOUR - 1
            assert verified(artifacts, link.path) == (artifact, 0)
            clock.now += 1
            with pytest.raises(Expired):
                verified(artifacts, link.path)
            with pytest.raises(Forbidden):
                verified(artifacts, link.path.replace(artifact.id[:8], f"{artifact.born + 1:08x}"))

    asyncio.run(story())


def test_no_link_outlives_what_it_leads_to(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock)
        artifact = await artifacts.put(PNG, "image/png")
        clock.now += DAY - 600
        assert artifacts.sign(artifact.id).expires == artifact.born + DAY
        clock.now += 600
        with pytest.raises(Expired):
            artifacts.sign(artifact.id)

    asyncio.run(story())


def test_our_own_link_on_any_host(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock)
        artifact = await artifacts.put(PNG, "image/png")
        path = artifacts.sign(artifact.id).path
        for before in ("http://127.0.0.1:8484", "https://paint.example/limner", ""):
            assert await artifacts.behind(before + path) == PNG
        for other in (path[:-1], path.replace("&signature", "&x"), "http://x/y.png", "data:,x"):
            assert await artifacts.behind(other) is None
        clock.now += HOUR
        with pytest.raises(Expired):
            await artifacts.behind(path)

    asyncio.run(story())


# -- Throwing away --------------------------------------------------------------------------------


def test_what_is_too_old_is_swept(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        clock.now = float(int(clock.now))  # to the second
        artifacts = store(shelf, clock)
        shelf.put("notes.txt", b"not ours", "text/plain")
        old = await artifacts.put(PNG, "image/png")
        clock.now += 2 * HOUR
        young = await artifacts.put(PNG, "image/png")
        clock.now += 22 * HOUR - 1
        await artifacts.sweep()
        assert set(shelf.sizes()) == {"notes.txt", old.id, young.id}
        clock.now += 1
        await store(shelf, clock).sweep()  # as another process, or the next
        assert set(shelf.sizes()) == {"notes.txt", young.id}
        with pytest.raises(Expired):
            await artifacts.read(old.id)
        clock.now -= 30 * DAY  # the clock is put right
        await artifacts.sweep()
        assert set(shelf.sizes()) == {"notes.txt"}

    asyncio.run(story())


def test_the_sweeper_sweeps_at_once_and_goes_on(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock)
        first = await artifacts.put(PNG, "image/png")
        clock.now += DAY
        monkeypatch.setattr("server.results.artifacts.SWEEP_SECONDS", 0.02)
        sweeping = asyncio.create_task(artifacts.run())
        try:
            await vanished(shelf, first)
            second = await artifacts.put(PNG, "image/png")
            clock.now += DAY
            await vanished(shelf, second)
        finally:
            sweeping.cancel()

    asyncio.run(story())


async def vanished(shelf: Shelf, artifact: Artifact) -> None:
    await until(lambda: artifact.id not in shelf.sizes())


def test_the_oldest_go_when_there_is_no_room(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock, quota=1000)
        ids = []
        for _ in range(4):
            ids.append((await artifacts.put(bytes(250), "image/png")).id)
            clock.now += HOUR / 2
        # Now they are 2, 1.5, 1 and 0.5 hours old.
        new = (await artifacts.put(bytes(500), "image/png")).id
        assert set(shelf.sizes()) == {ids[2], ids[3], new}
        again = store(shelf, clock, quota=1000)  # which has to look first
        newer = (await again.put(bytes(250), "image/png")).id
        assert set(shelf.sizes()) == {ids[3], new, newer}
        for artifacts in (again, store(shelf, clock, quota=1000)):
            with pytest.raises(Unstored, match="no room"):  # what is left is younger than an hour
                await artifacts.put(bytes(1), "image/png")
            assert set(shelf.sizes()) == {ids[3], new, newer}
        with pytest.raises(Unstored, match="no room"):
            await again.put(bytes(1001), "image/png")

    asyncio.run(story())


def test_many_at_once_never_take_more_than_the_quota(shelf: Shelf):
    async def story() -> None:
        clock = Clock()
        artifacts = store(shelf, clock, quota=1000)
        puts = [artifacts.put(bytes(300), "image/png") for _ in range(8)]
        done = await asyncio.gather(*puts, return_exceptions=True)
        assert sorted(type(each).__name__ for each in done) == ["Artifact"] * 3 + ["Unstored"] * 5
        assert sum(shelf.sizes().values()) == 900
        clock.now += HOUR
        puts = [artifacts.put(bytes(300), "image/png") for _ in range(3)]
        assert {artifact.id for artifact in await asyncio.gather(*puts)} == set(shelf.sizes())

    asyncio.run(story())


# -- Trouble --------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_gets_better(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async def story() -> None:
        artifacts = store(Shelf((tmp_path / "a").as_uri()), Clock())
        kept = await artifacts.put(PNG, "image/png")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        try:
            with pytest.raises(Unstored, match="log says why"):
                await artifacts.put(bytes(10**6), "image/png")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "too large" in caplog.text
        assert names_in(tmp_path / "a") == {kept.id}  # nothing by halves
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700  # nobody else's business
        assert await artifacts.read((await artifacts.put(bytes(10**6), "image/png")).id)

    asyncio.run(story())


def test_a_folder_that_cannot_be_is_said_at_the_start_and_at_each_put(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async def story() -> None:
        (tmp_path / "file").write_text("in the way")
        shelf = Shelf((tmp_path / "file" / "artifacts").as_uri())
        artifacts = store(shelf, Clock())
        sweeping = asyncio.create_task(artifacts.run())
        await until(lambda: "cannot be kept" in caplog.text)
        assert not sweeping.done()
        sweeping.cancel()
        with pytest.raises(Unstored):
            await artifacts.put(PNG, "image/png")
        (tmp_path / "file").unlink()
        assert await artifacts.put(PNG, "image/png")

    asyncio.run(story())


def test_a_server_that_keeps_nothing_leaves_no_trace(tmp_path: Path):
    async def story() -> None:
        data = tmp_path / "data"
        shelf = Shelf((data / "artifacts").as_uri())
        artifacts = Artifacts(
            shelf, lambda: [kept_key(data / "signing.key")], hours=24, quota=10**9
        )
        for read in (artifacts.read, artifacts.size):
            with pytest.raises(Expired):
                await read(Artifact.of(PNG, "image/png", time.time()).id)
        await artifacts.sweep()
        assert not data.exists()

    asyncio.run(story())


def test_without_a_key_nothing_is_kept(tmp_path: Path):
    key_file = tmp_path / "key" / "signing.key"
    (tmp_path / "key").write_text("in the way")
    shelf = Shelf((tmp_path / "a").as_uri())
    artifacts = Artifacts(shelf, lambda: [kept_key(key_file)], hours=24, quota=10**9)
    id_ = Artifact.of(PNG, "image/png", time.time()).id

    async def story() -> None:
        with pytest.raises(Unstored):
            await artifacts.put(PNG, "image/png")
        with pytest.raises(Unstored):
            artifacts.sign(id_)
        with pytest.raises(Unstored):
            artifacts.verify(id_, "1", "x")
        assert shelf.sizes() == {}
        (tmp_path / "key").unlink()
        artifact = await artifacts.put(PNG, "image/png")
        assert verified(artifacts, artifacts.sign(artifact.id).path)[0] == artifact

    asyncio.run(story())


def test_a_bucket_that_is_not_there(
    s3: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def story() -> None:
        for endpoint in (s3, nobody):
            artifacts = store(Shelf("s3://no-such-bucket/x", endpoint), Clock())
            with pytest.raises(Unstored):
                await artifacts.sweep()
            with pytest.raises(Unstored):
                await artifacts.put(PNG, "image/png")
            with pytest.raises(ShelfFault):  # and not that the picture is not there
                artifacts._shelf.put("a", PNG, "image/png")
            caplog.clear()
            sweeping = asyncio.create_task(artifacts.run())
            await until(lambda: "artifacts: sweep" in caplog.text, seconds=20)
            await asyncio.sleep(0.01)
            assert not sweeping.done()  # it waits for better times
            sweeping.cancel()

    asyncio.run(story())


WRITER = """
import os, sys
from server.results.shelf import Shelf
shelf, data = Shelf(sys.argv[1]), os.urandom(8 * 2**20)
print("go", flush=True)
for name in sys.argv[2:]:
    shelf.put(name, data, "image/png")
"""


def test_a_writer_killed_in_the_middle_leaves_nothing_half_done(tmp_path: Path):
    async def story() -> None:
        clock = Clock()
        shelf = Shelf((tmp_path / "a").as_uri())
        artifacts = store(shelf, clock)
        for round_ in range(6):
            ids = [Artifact.of(b"%d" % n, "image/png", clock.now).id for n in range(50)]
            await asyncio.to_thread(killed, [sys.executable, "-c", WRITER, shelf.url, *ids], round_)
        assert set(shelf.sizes().values()) == {8 * 2**20}
        unfinished = {path.name for path in shelf.unfinished().values()}
        assert set(shelf.sizes()) == names_in(tmp_path / "a") - unfinished
        clock.now += HOUR
        (tmp_path / "a" / "theirs#1").touch()
        await artifacts.sweep()
        assert {name: path.name for name, path in shelf.unfinished().items()} == {
            "theirs": "theirs#1"
        }

    asyncio.run(story())


def killed(command: list[str], round_: int) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"go\n"
        time.sleep(0.011 * (round_ + 1))
        writer.send_signal(signal.SIGKILL)


def test_what_a_dead_writer_left_is_swept_but_not_what_is_being_written(tmp_path: Path):
    async def story() -> None:
        clock = Clock()
        artifacts = store(Shelf(tmp_path.as_uri()), clock)
        old = Artifact.of(b"a", "image/png", clock.now - HOUR).id
        new = Artifact.of(b"b", "image/png", clock.now).id
        for id_ in (old, new):
            (tmp_path / f"{id_}#1").write_bytes(b"half")
        await artifacts.sweep()
        assert names_in(tmp_path) == {f"{new}#1"}

    asyncio.run(story())


def test_a_bucket_that_hangs_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            artifacts = store(Shelf("s3://bucket/x", endpoint), Clock())
            putting = asyncio.create_task(artifacts.put(PNG, "image/png"))
            longest = 0.0
            for _ in range(30):
                before = time.perf_counter()
                await asyncio.sleep(0.01)
                longest = max(longest, time.perf_counter() - before)
            assert longest < 0.25
            assert not putting.done()
        with pytest.raises(Unstored):  # now that nobody listens
            await putting

    asyncio.run(story())
