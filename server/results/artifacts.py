"""Artifacts: results that are kept for a while, and the links by which they are fetched.

All that is known of an artifact is in its id, so there is no record to lose. Knows nothing of HTTP.
"""

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from server.errors import Expired, Forbidden, Unstored
from server.results import links
from server.results.links import Link, Signer
from server.results.shelf import NotThere, Shelf, ShelfFault

log = logging.getLogger(__name__)

LINK_SECONDS = 3600  # a link is good for; nothing younger is thrown away for want of room
SWEEP_SECONDS = 600
THREADS = 4
ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
MIMES = {ending: mime for mime, ending in ENDINGS.items()}
UNSTORED = "the result cannot be kept at the moment; the server's log says why"
GONE = "the result is no longer kept"

_ID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{32}-([0-9a-f]{64})\.(png|jpg|webp)")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the id of an artifact says: `<unix seconds>-<random>-<SHA-256>.<type>`, in hex. The
    random part has 128 bits."""

    id: str
    born: int  # unix seconds
    sha256: str  # of the bytes, in hex
    mime: str

    @classmethod
    def called(cls, name: str) -> "Artifact":
        """The artifact with this id. Raises ValueError."""
        found = _ID.fullmatch(name)
        if not found:
            raise ValueError(f"no id of an artifact: {id!r:.200}")
        return cls(name, int(found[1], 16), found[2], MIMES[found[3]])

    @classmethod
    def of(cls, data: bytes, mime: str, born: float) -> "Artifact":
        """A new one, with an id that nobody can guess."""
        digest, ending = hashlib.sha256(data).hexdigest(), ENDINGS[mime]
        return cls.called(f"{int(born):08x}-{secrets.token_hex(16)}-{digest}.{ending}")


@dataclass(frozen=True, slots=True)
class Opened:
    """An artifact's bytes, about to be read."""

    size: int
    pieces: AsyncGenerator[bytes]


class Artifacts:
    """The store of results.

    Args:
        shelf: where they lie.
        keys: the signing keys, the newest first; asked for when the first is needed. May raise
            OSError.
        hours: how long they are kept.
        quota: bytes that they may take together, as far as this process knows: what others put on
            the same shelf it learns at its next sweep.
        clock: unix seconds.
    """

    def __init__(
        self,
        shelf: Shelf,
        keys: Callable[[], Sequence[str]],
        *,
        hours: float,
        quota: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shelf = shelf
        self._keys = keys
        self._keep_seconds = hours * 3600
        self._quota = quota
        self._clock = clock
        # Threads of their own: a bucket that hangs holds up nothing else.
        self._threads = ThreadPoolExecutor(THREADS, "artifacts")
        self._turn = asyncio.Lock()  # to count, to throw away and to take room
        self._kept: dict[str, int] | None = None  # sizes by id, once the shelf was looked through
        self._coming: dict[str, int] = {}  # those being written

    async def put(self, data: bytes, mime: str) -> Artifact:
        """Keep a PNG, JPEG or WebP file; when there is no room, the oldest are thrown away.

        Raises:
            Unstored: everything there is younger than an hour, or it cannot be written.
        """
        artifact = await self._in_thread(Artifact.of, data, mime, self._clock())
        with _public("put"):
            _ = self._signer  # what nobody can get a link to need not be kept
            await self._take_room(artifact, len(data))
            try:
                await self._in_thread(self._shelf.put, artifact.id, data, mime)
                if self._kept is not None:
                    self._kept[artifact.id] = len(data)
            finally:
                del self._coming[artifact.id]
        return artifact

    async def _take_room(self, artifact: Artifact, size: int) -> None:
        async with self._turn:
            kept = await self._looked_through() if self._kept is None else self._kept
            lacking = sum(kept.values()) + sum(self._coming.values()) + size - self._quota
            doomed: list[str] = []
            for old in sorted(kept) if lacking > 0 else ():  # the oldest first, by their ids
                if lacking <= 0 or self._clock() - Artifact.called(old).born < LINK_SECONDS:
                    break
                doomed.append(old)
                lacking -= kept[old]
            if lacking > 0:
                log.error("no room for %d bytes: artifact_bytes is %d", size, self._quota)
                raise Unstored("there is no room for the result", retry_after=SWEEP_SECONDS)
            await self._throw_away(doomed)
            self._coming[artifact.id] = size

    def sign(self, name: str) -> Link:
        """A link that leads to an artifact for an hour, or as long as it is kept.

        Raises:
            ValueError: that is no id. Expired: it is kept no longer. Unstored: there is no key.
        """
        now, end = self._clock(), self._end(Artifact.called(name))
        if end <= now:
            raise Expired(GONE)
        with _public("sign"):
            return self._signer.link(name, int(min(now + LINK_SECONDS, end)))

    def verify(self, name: str, expires: str, signature: str) -> tuple[Artifact, int]:
        """The artifact that a link may fetch, and for how many seconds more. `expires` and
        `signature` are those of its query.

        Raises:
            Forbidden: it is not one of our links. Expired: it was. Unstored: there is no key.
        """
        now = self._clock()
        with _public("verify"):
            until = self._signer.check(name, expires, signature, now)
        return Artifact.called(name), int(until - now)

    async def open(self, name: str) -> Opened:
        """The bytes of an artifact, piece by piece.

        Raises:
            Expired: it is not there any more. Unstored: it cannot be read.
        """
        with _public("open"):
            book = await self._in_thread(self._shelf.open, name)
        return Opened(book.size, self._pieces(book.pieces.__next__))

    async def _pieces(self, following: Callable[[], bytes]) -> AsyncGenerator[bytes]:
        def read() -> bytes | None:
            try:
                return following()
            except StopIteration:  # which no future can carry
                return None

        with _public("read"):
            while (piece := await self._in_thread(read)) is not None:
                yield piece

    async def read(self, name: str) -> bytes:
        """All the bytes of an artifact. Raises as `open`."""
        return b"".join([piece async for piece in (await self.open(name)).pieces])

    async def size(self, name: str) -> int:
        """How many bytes an artifact has. Raises as `open`."""
        with _public("size"):
            return await self._in_thread(self._shelf.size, name)

    async def behind(self, url: str) -> bytes | None:
        """What a link of ours leads to, on whatever host it is said to be; None if it is none.

        Raises:
            Expired: it was one, or what it led to is gone. Unstored: it cannot be read.
        """
        found = links.parts(url)
        if not found:
            return None
        try:
            artifact, _ = self.verify(*found)
        except Forbidden:
            return None
        return await self.read(artifact.id)

    # -- Throwing away ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Throw away what is too old, now and every ten minutes, for ever."""
        if doubt := await self._in_thread(self._shelf.doubt):
            log.warning("results cannot be kept in %s: %s", self._shelf.url, doubt)
        while True:
            with suppress(Unstored):  # it is in the log; perhaps the shelf is back the next time
                await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Throw away what is too old, and what writers that died left half done.

        Raises:
            Unstored: the shelf cannot be looked through.
        """
        with _public("sweep"):
            async with self._turn:
                kept = await self._looked_through()
            # Without the turn: who puts something need not wait for a thousand old ones to go.
            await self._throw_away([id_ for id_ in kept if self._is_old(id_)])
            await self._in_thread(self._clear_unfinished)

    async def _looked_through(self) -> dict[str, int]:
        found = await self._in_thread(self._shelf.sizes)
        ours = {id_: size for id_, size in found.items() if _ID.fullmatch(id_)}
        self._kept = {id_: size for id_, size in ours.items() if id_ not in self._coming}
        return self._kept

    async def _throw_away(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            await self._in_thread(self._shelf.remove, id_)
            if self._kept is not None:
                self._kept.pop(id_, None)

    def _clear_unfinished(self) -> None:
        for name, path in self._shelf.unfinished().items():
            if _ID.fullmatch(name) and self._clock() - Artifact.called(name).born >= LINK_SECONDS:
                path.unlink(missing_ok=True)

    def _end(self, artifact: Artifact) -> float:
        return artifact.born + self._keep_seconds

    def _is_old(self, id_: str) -> bool:
        # One from the future was put when the clock was wrong, and would stay until then.
        return abs(self._clock() - Artifact.called(id_).born) >= self._keep_seconds

    @cached_property
    def _signer(self) -> Signer:
        return Signer(self._keys())

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


@contextmanager
def _public(doing: str) -> Generator[None]:
    """What a client is told of the shelf's and the key's troubles; the log says more."""
    try:
        yield
    except NotThere as error:
        raise Expired(GONE) from error
    except (ShelfFault, OSError) as error:
        log.error("artifacts: %s: %s", doing, error)
        raise Unstored(UNSTORED) from error
