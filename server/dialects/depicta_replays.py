"""`Idempotency-Key`: the same request, sent twice, is painted once and answered twice.

Requests in flight are known to this process; those that were answered are in the database.
"""

import asyncio
import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from server.errors import BadRequest, InFlight
from server.history.records import Record
from server.history.store import Jobs

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[!-~]{1,255}")
_OTHER = f"{HEADER}: it was used for another request"


@dataclass(frozen=True, slots=True)
class Once:
    """A request that may be sent twice; both are SHA-256, in hex."""

    key: str
    fingerprint: str


def once(request: Request, fingerprint: str) -> Once | None:
    """What the header says of a request; None without it.

    Raises:
        BadRequest: it is no key.
    """
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise BadRequest(f"{HEADER}: must be 1 to 255 printable ASCII characters", param=HEADER)
    return Once(hashlib.sha256(f"depicta\0{given[0]}".encode()).hexdigest(), fingerprint)


class Flight:
    """A request that is being answered: until the block is left, or its task has ended, if it has
    one that outlasts the block."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None


class Flights:
    """The requests that are being answered and may be sent again meanwhile."""

    def __init__(self) -> None:
        self._flying: dict[str, str] = {}

    @contextmanager
    def of(self, asked: Once | None) -> Generator[Flight]:
        """While it lasts, no other request flies under this key.

        Raises:
            InFlight: one does. BadRequest: and it is another request.
        """
        flight = Flight()
        if asked is None:
            yield flight
            return
        if (flying := self._flying.get(asked.key)) is not None:
            _expect_same(asked, flying)
            raise InFlight("the same request is being answered; try again later", retry_after=1)
        self._flying[asked.key] = asked.fingerprint
        try:
            yield flight
        finally:
            if flight.task is None or flight.task.done():
                del self._flying[asked.key]
            else:
                flight.task.add_done_callback(lambda _: self._flying.pop(asked.key))


async def answered(asked: Once, jobs: Jobs) -> Record | None:
    """The job that answered this request before, if one did.

    Raises:
        BadRequest: the key was used for another request. Unstored: nobody knows.
    """
    found = await jobs.under(asked.key)
    if found and found.fingerprint:
        _expect_same(asked, found.fingerprint)
    return found


def _expect_same(asked: Once, fingerprint: str) -> None:
    if fingerprint != asked.fingerprint:
        raise BadRequest(_OTHER, param=HEADER)
