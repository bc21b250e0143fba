"""A limner whose event loop is watched while it serves: `python -m bench.ticking FILE serve …`.

A task in its loop wishes to be woken after a millisecond, again and again. FILE has, at the end,
a row for each time: when that was (`time.monotonic()`), how many seconds late it was, how many
seconds the loop's thread had calculated since the time before, and how many it had been ready to
while others had all processors (Linux tells; elsewhere NaN). Rows of float64.
"""

import array
import asyncio
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from server.cli import main as limner

WISH = 1e-3  # seconds
# Nanoseconds that a thread calculated and waited for a processor, and how often.
WAITED = Path("/proc/thread-self/schedstat")


async def tick(rows: "array.array[float]") -> None:
    """Note every wakening."""
    wait = Wait()
    then, calculated, waited = time.monotonic(), time.thread_time(), wait.seconds()
    while True:
        await asyncio.sleep(WISH)
        now, sum_, in_all = time.monotonic(), time.thread_time(), wait.seconds()
        rows.extend((now, now - then - WISH, sum_ - calculated, in_all - waited))
        then, calculated, waited = now, sum_, in_all


class Wait:
    """How long the thread that made it has waited for a processor in all."""

    def __init__(self) -> None:
        self._file = os.open(WAITED, os.O_RDONLY) if WAITED.exists() else None

    def seconds(self) -> float:
        """NaN where nobody tells."""
        if self._file is None:
            return math.nan
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9


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
