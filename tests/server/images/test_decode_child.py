"""The pool of decode children: deadlines, deaths, cancellation, closing, and who outlives whom."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from io import BytesIO
from typing import Any

import PIL.Image
import psutil
import pytest

from models.contract import Image
from server.errors import BadImage, InternalError, ShuttingDown
from server.images import decode_child, pictures
from server.images.pictures import DecodeLimits, Decoders

SOON = 5.0  # seconds; for what should take none
ONE = DecodeLimits(children=1)
HASTY = DecodeLimits(children=1, seconds=0.5)


def file(shade: int = 0, side: int = 8) -> bytes:
    buffer = BytesIO()
    PIL.Image.new("L", (side, side), shade).save(buffer, "PNG")
    return buffer.getvalue()


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "server.images.decoder" in p.cmdline()]


def only_child() -> psutil.Process:
    (child,) = children()
    return child


async def works(decoders: Decoders) -> bool:
    image = await decoders.image(file(9), param="image")
    return image == Image(8, 8, "RGB", bytes([9]) * 192)


async def gone(process: psutil.Process) -> bool:
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.02)
    return False


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 60))
    assert children() == []


def test_answers_do_not_cross() -> None:
    async def story() -> None:
        async with Decoders(DecodeLimits(children=2)) as decoders:
            tasks = [decoders.image(file(i, 1 + i % 7), param="image") for i in range(30)]
            images = await asyncio.gather(*tasks)
            assert len(children()) == 2
        for i, image in enumerate(images):
            assert image == Image(1 + i % 7, 1 + i % 7, "RGB", bytes([i]) * (1 + i % 7) ** 2 * 3)

    run(story())


@pytest.mark.parametrize("size", [100, 25_000_000])
def test_a_stalled_child_is_killed_at_the_deadline(size: int) -> None:
    async def story() -> None:
        async with Decoders(HASTY) as decoders:
            stalled = only_child()
            stalled.suspend()
            start = time.monotonic()
            with pytest.raises(BadImage, match="too long"):
                await decoders.image(file() + bytes(size), param="image")
            assert 0.5 <= time.monotonic() - start < SOON
            assert await works(decoders)
            assert await gone(stalled)

    run(story())


def test_a_child_that_dies_midway_costs_its_request_only() -> None:
    async def story() -> None:
        async with Decoders(ONE) as decoders:
            victim = only_child()
            victim.suspend()
            asked = asyncio.create_task(decoders.image(file(), param="image"))
            waiting = asyncio.create_task(works(decoders))
            await asyncio.sleep(0.1)
            victim.kill()
            with pytest.raises(BadImage):
                await asked
            assert await waiting

    run(story())


def test_a_child_that_died_idle_costs_nothing() -> None:
    async def story() -> None:
        async with Decoders(ONE) as decoders:
            victim = only_child()
            victim.kill()
            assert await gone(victim)
            assert await works(decoders)

    run(story())


def test_cancellation_leaves_the_pool_usable() -> None:
    async def story() -> None:
        async with Decoders(ONE) as decoders:
            stalled = only_child()
            stalled.suspend()
            asked = asyncio.create_task(decoders.image(file(), param="image"))
            waiting = asyncio.create_task(decoders.image(file(), param="image"))
            await asyncio.sleep(0.1)
            waiting.cancel()
            asked.cancel()
            results = await asyncio.gather(asked, waiting, return_exceptions=True)
            assert [type(r) for r in results] == [asyncio.CancelledError] * 2
            assert await works(decoders)
            assert await gone(stalled)

    run(story())


def test_requests_cancelled_at_any_moment_leave_the_pool_usable() -> None:
    async def story() -> None:
        async with Decoders(DecodeLimits(children=2)) as decoders:
            for i in range(12):
                asked = asyncio.create_task(decoders.image(file(0, 600), param="image"))
                await asyncio.sleep(i * 0.001)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            assert await works(decoders)
            assert await works(decoders)

    run(story())


def test_leaving_the_pool_ends_all_that_wait() -> None:
    async def story() -> None:
        async with Decoders(ONE) as decoders:
            only_child().suspend()
            asked = [asyncio.create_task(works(decoders)) for _ in range(3)]
            await asyncio.sleep(0.1)
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(r) for r in results] == [ShuttingDown] * 3
        with pytest.raises(ShuttingDown):
            await works(decoders)

    run(story())


def test_children_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "RECYCLE", 2)

    async def story() -> None:
        async with Decoders(ONE) as decoders:
            first = only_child()
            assert await works(decoders)
            assert only_child() == first
            assert await works(decoders)
            assert await gone(first)
            assert await works(decoders)

    run(story())


@pytest.mark.parametrize("command", [("/nowhere",), (sys.executable, "-c", "print('hello')")])
def test_a_child_that_cannot_start_is_told_on_entering(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(decode_child, "COMMAND", command)

    async def story() -> None:
        with pytest.raises(InternalError):
            async with Decoders(DecodeLimits()):
                pass

    run(story())


def test_a_child_has_limits_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")

    async def story() -> None:
        async with Decoders(ONE) as decoders:
            child = only_child()
            assert "SECRET" not in child.environ()
            if sys.platform == "linux":
                assert child.rlimit(psutil.RLIMIT_AS)[1] == 2**30
                assert child.rlimit(psutil.RLIMIT_CORE)[1] == 0
                assert {f.fd for f in child.open_files()} <= {2}
            child.send_signal(signal.SIGINT)
            assert await works(decoders)
            assert only_child() == child

    run(story())


SERVER = """
import asyncio
from server.images.pictures import DecodeLimits, Decoders

async def main():
    async with Decoders(DecodeLimits()):
        print("up", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_children_do_not_outlive_a_killed_server() -> None:
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=decode_child.ROOT) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        orphans = psutil.Process(server.pid).children()
        server.kill()
    assert len(orphans) == 2
    for orphan in orphans:
        assert asyncio.run(gone(orphan))
