"""Waiting in a test for what is about to be so."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object], seconds: float = 5) -> None:
    """Let others work until it is so. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  nothing tells of it: it may be anything
            await asyncio.sleep(0.01)
