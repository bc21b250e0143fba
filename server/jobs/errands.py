"""Work that goes on when the client who asked for it has left.

Knows nothing of what the work is. What nobody waits for any more is said in the log.
"""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from server.errors import Refusal

log = logging.getLogger(__name__)

T = TypeVar("T")


class Errands:
    """The errands that are being run; on leaving they have `grace_seconds` to end."""

    def __init__(self, grace_seconds: float = 0) -> None:
        self._grace_seconds = grace_seconds
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it, whatever becomes of the caller. Wait with `asyncio.shield`."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or not (error := task.exception()):
            return
        if not isinstance(error, Refusal):  # whoever waits answers a refusal; the rest are bugs
            log.error("an errand broke", exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what is left after a while, and wait until it has ended."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace_seconds)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
