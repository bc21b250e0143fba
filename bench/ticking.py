"""A limner whose event loop is watched while it serves: `python -m bench.ticking FILE serve …`.

A task in its loop wishes to be woken after a millisecond, again and again. FILE has, at the end,
a row for each time: when that was (`time.monotonic()`), how many seconds late it was, how many
seconds the loop's thread had calculated since the time before, and how many it had been ready to
while others had all processors (Linux tells; elsewhere 0). Rows of float64.
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
WAITED = Path(
    "/proc/thread-self/schedstat"
)  # ns: calculated, waited for a processor; and how often


async def tick(rows: "array.array[float]") -> None:
    """Note every wakening."""
    then, calculated, waited = time.monotonic(), time.thread_time(), kept_waiting()
    while True:
        await asyncio.sleep(WISH)
        now, sum_, in_all = time.monotonic(), time.thread_time(), kept_waiting()
        rows.extend((now, now - then - WISH, sum_ - calculated, in_all - waited))
        then, calculated, waited = now, sum_, in_all


def kept_waiting() -> float:
    """Seconds that this thread has waited for a processor in all."""
    return int(WAITED.read_text("ascii").split()[1]) / 1e9 if WAITED.exists() else 0.0


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
