"""A limner whose event loop is watched while it serves: `python -m bench.ticking FILE serve …`.

A task in its loop wishes to be woken after a millisecond, again and again. FILE has, at the end,
a row for each time: when that was (`time.monotonic()`), how many seconds late it was, and how many
seconds the loop's thread had calculated since the time before. Rows of float64.
"""

import array
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from server.cli import main as limner

WISH = 1e-3  # seconds


async def tick(rows: "array.array[float]") -> None:
    """Note every wakening."""
    then, calculated = time.monotonic(), time.thread_time()
    while True:
        await asyncio.sleep(WISH)
        now, sum_ = time.monotonic(), time.thread_time()
        rows.extend((now, now - then - WISH, sum_ - calculated))
        then, calculated = now, sum_


class Watched(uvicorn.Server):
    """The server, with one task more in its loop."""

    rows: "array.array[float]" = array.array("d")

    async def startup(self, *given: Any, **more: Any) -> None:
        await super().startup(*given, **more)
        self.ticker = asyncio.create_task(tick(self.rows))

    async def shutdown(self, *given: Any, **more: Any) -> None:
        self.ticker.cancel()
        await super().shutdown(*given, **more)


def main() -> None:
    """Serve as the rest of the command line says."""
    path, *said = sys.argv[1:]
    uvicorn.Server = Watched
    sys.argv = ["limner", *said]
    try:
        limner()
    finally:
        Path(path).write_bytes(Watched.rows.tobytes())


if __name__ == "__main__":
    main()
