"""Sends a load: in a closed loop, at a rate, or all at once; each request timed as clients see it.

A request that a stalled server, or a stalled script, keeps from being sent on time counts from when
it was due. Knows nothing of what the figures amount to.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

from bench.mix import Plan, Planned
from bench.speech import Answer, Dialect, timing
from bench.tally import Sample


@dataclass(slots=True)
class Load:
    """One load on one server.

    Args:
        limit: seconds that an answer may take.
        note: told of every sample.
    """

    client: httpx2.AsyncClient
    dialect: Dialect
    plan: Plan
    limit: float
    note: Callable[[Sample], None]
    samples: list[Sample] = field(default_factory=list[Sample])
    began: float = 0.0

    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self.began

    async def closed(self, clients: int, seconds: float, count: int) -> None:
        """So many clients that each ask again once they are answered, for so many seconds or
        requests, whichever ends first; 0: no end."""
        self.began = time.perf_counter()

        async def client() -> None:
            while (not seconds or self.now() < seconds) and (not count or self.plan.count < count):
                await self._one(self.plan.draw(), self.now())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(client())

    async def opened(self, rate: float, seconds: float, seed: int) -> None:
        """Requests that come by chance (Poisson), `rate` a second, whoever is still waiting."""
        self.began = time.perf_counter()
        rng, due = Random(seed), 0.0
        async with asyncio.TaskGroup() as tasks:
            while (due := due + rng.expovariate(rate)) < seconds:
                await asyncio.sleep(max(0.0, due - self.now()))
                tasks.create_task(self._one(self.plan.draw(), due))

    async def offline(self, count: int) -> None:
        """All at once."""
        self.began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(self._one(self.plan.draw(), 0.0))

    async def _one(self, planned: Planned, due: float) -> None:
        sent = self.now()
        patience = planned.kind.cancel_after if planned.leaves else self.limit
        seen = Seen()
        try:
            async with asyncio.timeout(patience):
                await self._ask(planned, seen)
        except TimeoutError:
            seen.error = "" if planned.leaves else f"no answer in {self.limit:g} s"
            seen.left = planned.leaves
        except httpx2.HTTPError as error:
            seen.error = type(error).__name__
        except (ValueError, KeyError, TypeError) as error:
            seen.error = f"an answer that makes no sense: {error!r:.80}"
        sample = Sample(
            number=planned.number,
            kind=planned.kind.name,
            due=due,
            sent=sent,
            done=self.now(),
            status=seen.status,
            images=seen.answer.images,
            left=seen.left,
            preview=seen.preview,
            queue=seen.seconds.get("queue"),
            paint=seen.seconds.get("paint"),
            encode=seen.seconds.get("encode"),
            error=seen.error,
        )
        self.samples.append(sample)
        self.note(sample)

    async def _ask(self, planned: Planned, seen: "Seen") -> None:
        ask = self.dialect.ask(planned)
        said: dict[str, Any] = {"json": ask.json} if ask.json is not None else {"data": ask.data}
        async with self.client.stream(
            "POST", self.dialect.base + ask.path, files=ask.files or None, **said
        ) as answer:
            seen.status = answer.status_code
            seen.said = timing(answer.headers.get("server-timing", ""))
            kind = answer.headers.get("content-type", "")
            if kind.startswith("text/event-stream"):
                await self._listen(answer, seen)
            elif answer.status_code == 200:
                seen.answer = self.dialect.read(kind, await answer.aread())
            else:
                seen.error = (await answer.aread())[:100].decode("utf-8", "replace")
        if not seen.error and seen.answer.images != planned.kind.n:
            seen.error = f"{seen.answer.images} of {planned.kind.n} images"

    async def _listen(self, answer: httpx2.Response, seen: "Seen") -> None:
        async for event in events(answer):
            if "error" in event:
                seen.error = f"an error in the stream: {event['error']!r:.80}"
            elif is_preview(event) and seen.preview is None:
                seen.preview = self.now()
            elif str(event.get("type", "")).endswith(".completed"):
                about: dict[str, Any] = event.get("limner", {})
                seen.answer = Answer(seen.answer.images + 1, about.get("seconds", {}))
            elif event.get("status") in ("completed", "failed"):
                seen.answer = self.dialect.read("application/json", json.dumps(event).encode())


@dataclass(slots=True)
class Seen:
    """What has been seen of an answer so far."""

    status: int = 0
    answer: Answer = field(default_factory=lambda: Answer(0))
    preview: float | None = None
    left: bool = False
    error: str = ""
    said: Mapping[str, float] = field(default_factory=dict[str, float])  # by a header

    @property
    def seconds(self) -> dict[str, float]:
        """What the server says of its time, in its answer or ahead of it."""
        return {**self.said, **self.answer.seconds}


def is_preview(event: dict[str, Any]) -> bool:
    """Whether an event of a stream shows a picture on its way."""
    return "partial_image_index" in event


async def events(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """The documents of a stream of server-sent events."""
    async for line in answer.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])
