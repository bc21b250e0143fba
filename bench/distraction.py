"""What a limner's other duties cost those it paints for: listeners, health checks, large answers.

Step time with and without hundreds of idle listeners, in turns; and how late the event loop comes
to a timer while it serves.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import numpy as np
from rich.progress import track

from bench import mix
from bench.drive import Load, events
from bench.mix import Kind, Plan
from bench.running import Server, limner, running
from bench.speech import DIALECTS
from bench.subject import PROMPT

Figures: TypeAlias = dict[str, Any]

LISTENERS = 200
CHECKS = 50  # health checks a second
STEPS = 30
MANY = 10  # pictures of a request; two such are more than a worker takes on at once
BEGIN = 5  # steps until the listeners are counted on to be there
CLIENTS = 8
LARGE = 1024  # px
TRIES = 250  # a fiftieth of a second apart
AT_ONCE = "the job that is listened to does not wait"
COLUMNS = 4  # of what bench.ticking notes

# -- Listeners ------------------------------------------------------------------------------------


def distracted(server: Server, rounds: int) -> Figures:
    """Seconds of a step with and without listeners and health checks, in turns."""
    rows = [
        (
            asyncio.run(step_seconds(server, 0, 0)),
            asyncio.run(step_seconds(server, LISTENERS, CHECKS)),
        )
        for _ in track(range(rounds), "listeners", transient=True)
    ]
    return {
        "listeners": LISTENERS,
        "health_checks_per_second": CHECKS,
        "pictures": 2 * MANY,
        "step_seconds": round(statistics.median(row[0] for row in rows), 5),
        "step_seconds_distracted": round(statistics.median(row[1] for row in rows), 5),
        "ratio": round(statistics.median(row[1] / row[0] for row in rows), 4),
    }


async def step_seconds(server: Server, listeners: int, checks: int) -> float:
    """Of pictures in company, while another job waits to which that many listen in vain.

    Raises:
        SystemExit: it did not wait.
    """
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=server.url, timeout=None, limits=limits) as client:
        steps = painted(client)
        await anext(steps)
        others = asyncio.create_task(stamps_of(painted(client)))
        await asyncio.sleep(0.1)  # they are to stand ahead of the one that waits
        waiting = asyncio.create_task(one_more(client))
        job = await put_off(client)
        async with listening(client, job, listeners), checking(client, checks):
            stamps = [await anext(steps) for _ in range(STEPS * 3 // 4)]
            if await pending(client) != job:
                raise SystemExit(AT_ONCE)
            stamps += await stamps_of(steps)
        await asyncio.gather(others, waiting)
    return statistics.median(np.diff(stamps[BEGIN:]))


async def stamps_of(steps: AsyncIterator[float]) -> list[float]:
    """All that are left."""
    return [stamp async for stamp in steps]


async def painted(client: httpx2.AsyncClient) -> AsyncIterator[float]:
    """When each step of the first of several pictures was told of."""
    body = {"model": "sketch", "prompt": PROMPT, "n": MANY, "steps": STEPS, "stream": True}
    size = {"width": 128, "height": 128}
    base = DIALECTS["aimo"].base
    async with client.stream("POST", f"{base}/image/generate", json=body | size) as answer:
        async for event in events(answer.raise_for_status()):
            raw: Mapping[str, Any] = event["provider_metadata"]["raw"]
            if raw.get("index") == 0 and "step" in raw:
                yield time.perf_counter()


async def one_more(client: httpx2.AsyncClient) -> None:
    """A picture that waits until there is room for it."""
    base = DIALECTS["depicta"].base
    answer = await client.post(f"{base}/generate/image", json={"prompt": PROMPT})
    answer.raise_for_status()


async def put_off(client: httpx2.AsyncClient) -> str:
    """The job that waits, once it is known.

    Raises:
        SystemExit: none does.
    """
    for _ in range(TRIES):
        if job := await pending(client):
            return job
        await asyncio.sleep(0.02)
    raise SystemExit(AT_ONCE)


async def pending(client: httpx2.AsyncClient) -> str:
    """The newest job, if it waits; else nothing."""
    answer = await client.get(f"{DIALECTS['depicta'].base}/jobs?limit=1")
    found = answer.raise_for_status().json()["generations"]
    return str(found[0]["job_id"]) if found and found[0]["status"] == "pending" else ""


@asynccontextmanager
async def listening(client: httpx2.AsyncClient, job: str, count: int) -> AsyncIterator[None]:
    """While it lasts, so many follow a job."""
    begun = asyncio.Semaphore(0)

    async def listen() -> None:
        async with client.stream("GET", f"/jobs/{job}/events") as answer:
            begun.release()
            async for _ in answer.raise_for_status().aiter_lines():
                pass

    tasks = [asyncio.create_task(listen()) for _ in range(count)]
    for _ in tasks:
        await begun.acquire()
    try:
        yield
    finally:
        await ended(tasks)


@asynccontextmanager
async def checking(client: httpx2.AsyncClient, per_second: int) -> AsyncIterator[None]:
    """While it lasts, the server is asked for its health."""

    async def check() -> None:
        while True:
            (await client.get("/healthz")).raise_for_status()
            await asyncio.sleep(1 / per_second)

    tasks = [asyncio.create_task(check())] if per_second else []
    try:
        yield
    finally:
        await ended(tasks)


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    """Stop those that have not failed by themselves."""
    for task in tasks:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for each in found:
        if isinstance(each, Exception):
            raise each


# -- Stalls ---------------------------------------------------------------------------------------


def stalls(seconds: float) -> Figures:
    """How late the event loop comes to a timer, idle and under a load of large pictures."""
    with tempfile.TemporaryDirectory(prefix="limner-ticks-") as folder:
        path = Path(folder) / "ticks"
        command = [sys.executable, "-m", "bench.ticking", str(path)]
        with running(lambda port: [*command, *limner(port)[3:]]) as server:
            asyncio.run(large(server, 2.0, 0))
            spans = {"idle": span(lambda: time.sleep(seconds / 2))}
            spans["loaded"] = span(lambda: asyncio.run(large(server, seconds, 1)))
        rows = np.fromfile(path, np.float64).reshape(-1, COLUMNS)
    return {"clients": CLIENTS, "px": LARGE} | {
        name: lateness(rows[(rows[:, 0] >= begin) & (rows[:, 0] < end)])
        for name, (begin, end) in spans.items()
    }


def span(work: Any) -> tuple[float, float]:
    """When something began and ended."""
    began = time.monotonic()
    work()
    return began, time.monotonic()


async def large(server: Server, seconds: float, turn: int) -> None:
    """Clients that each want large pictures, in base64 and as files, and send some to be edited."""
    told: dict[str, Any] = {"model": "sketch", "width": LARGE, "height": LARGE, "steps": 4}
    kinds = [
        Kind(name="file", **told),
        Kind(name="base64", n=2, **told),
        Kind(name="edit", task="edit", **told),
        Kind(name="stream", stream=True, **told),
    ]
    async with httpx2.AsyncClient(base_url=server.url, timeout=None) as client:
        plan = Plan(mix.plain(kinds), 0, turn)
        load = Load(client, DIALECTS["aimo"], plan, 600, lambda _: None)
        await load.closed(CLIENTS, seconds, 0)
    if bad := [sample for sample in load.samples if not sample.good]:
        raise SystemExit(f"the load was not answered: {bad[0].error or bad[0].status}")


def lateness(rows: np.ndarray[Any, np.dtype[np.float64]]) -> Figures:
    """In ms: by the clock, by the clock but for what the loop's thread waited for a processor, and
    what it calculated, from one timer to the next."""
    late, calculated, waited = rows[:, 1:].T * 1000
    return {
        "ticks": len(rows),
        "late_ms": percentiles(late),
        "own_late_ms": None
        if np.isnan(waited).any()
        else percentiles(np.maximum(late - waited, 0)),
        "calculated_ms": percentiles(calculated),
    }


def percentiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """The middle, and how bad it gets."""
    found = {f"p{q:g}": float(np.percentile(values, q)) for q in (50, 99, 99.9)}
    return {name: round(value, 3) for name, value in (found | {"max": values.max()}).items()}
