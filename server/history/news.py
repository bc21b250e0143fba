"""What happened to each job, as numbered events: kept for a while, for whoever wants to follow it.

In memory, and bounded. Knows nothing of HTTP, and of no picture more than that it is there.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from server.jobs.recorder import End, Entry

EVENTS = 256  # of one job; older ones are forgotten
JOBS = 1024  # that are over; the oldest are forgotten
KEEP_SECONDS = 600.0  # after a job's end


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `number` counts from 1 for each job."""

    number: int
    name: str
    facts: dict[str, Any]


@dataclass(slots=True)
class Tale:
    """The events of one job. `ended` is when it was over, by the clock."""

    events: deque[Event] = field(default_factory=lambda: deque[Event](maxlen=EVENTS))
    told: int = 0
    ended: float | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, name: str, facts: dict[str, Any]) -> None:
        """Add an event, and wake those who follow."""
        self.told += 1
        self.events.append(Event(self.told, name, facts))
        self.news.set()
        self.news = asyncio.Event()

    async def after(self, number: int) -> AsyncGenerator[Event]:
        """The events after that of this number, those to come as well; ends with the job."""
        while True:
            news = self.news
            for event in [each for each in self.events if each.number > number]:
                number = event.number
                yield event
            if self.ended is not None and number >= self.told:
                return
            if news is self.news:
                await news.wait()


class News:
    """The tales of all jobs, as a `Recorder`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[str, Tale] = {}
        self._over: dict[str, Tale] = {}  # by their ends, the oldest first

    def of(self, job: str) -> Tale | None:
        """What is known of a job."""
        self._forget()
        return self._running.get(job) or self._over.get(job)

    def admitted(self, entry: Entry, account: str, at: float) -> None:
        tale = self._running[entry.id] = Tale()
        tale.tell(
            "pending",
            {
                "status": "pending",
                "model": entry.model,
                "images": entry.images,
                "width": entry.output.width,
                "height": entry.output.height,
            },
        )

    def progressed(self, job: str, index: int, step: int, steps: int) -> None:
        facts = {"status": "processing", "index": index, "step": step, "steps": steps}
        self._running[job].tell("progress", facts)

    def painted(self, job: str, index: int, seed: int | None) -> None:
        facts: dict[str, Any] = {"status": "processing", "index": index}
        facts |= {} if seed is None else {"seed": seed}
        self._running[job].tell("painted", facts)

    def ended(self, job: str, end: End) -> None:
        tale = self._over[job] = self._running.pop(job)
        tale.ended = self._clock()
        facts: dict[str, Any] = {"status": end.state, "painted": end.painted}
        facts |= {"error": end.code} if end.code else {}
        seconds = {name: round(value, 4) for name, value in end.seconds.items()}
        tale.tell(end.state, facts | {"seconds": seconds})
        self._forget()

    def _forget(self) -> None:
        long_ago = self._clock() - KEEP_SECONDS
        for id_, tale in list(self._over.items()):
            if len(self._over) <= JOBS and (tale.ended is None or tale.ended > long_ago):
                break
            del self._over[id_]
