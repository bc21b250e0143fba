"""The rows of all requests: noted at once, written soon, read by whoever asks for a job.

What is not yet written is answered from memory, so that a database that is slow, full or locked
costs nobody a picture. Knows nothing of HTTP or of any dialect.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.sql import Select

from server.errors import Unstored
from server.history.database import Database, Unusable
from server.history.records import Record, recorded
from server.history.schema import JOBS
from server.jobs.recorder import End, Entry

log = logging.getLogger(__name__)

SOON = 0.2  # seconds in which rows are gathered, to be written together
BATCH = 200  # rows of one transaction
UNWRITTEN = 10_000  # rows that are kept for a database that fails; then the oldest are given up
RETRY_SECONDS = 15.0
CLOSE_SECONDS = 5.0
EXPIRE_SECONDS = 3600.0
INTERRUPTED = "interrupted"  # the outcome of a job whose server died
TROUBLE = "requests are not being recorded in the database; the server's log says why"
UNREADABLE = "jobs cannot be looked up at the moment; the server's log says why"
FAULTS = (SQLAlchemyError, Unusable, OSError)


class Jobs(Protocol):
    """What dialects ask of the jobs that there were: the store, or what a test has in its place."""

    def answered(self, job: str, answer: Mapping[str, Any], key: str, fingerprint: str) -> None:
        """Keep what is needed to give the answer again; key and fingerprint, if they are not
        empty, so that the same request finds it."""
        ...

    async def get(self, job: str) -> Record | None:
        """The job of this id. Raises Unstored."""
        ...

    async def latest(self, dialect: str, most: int, skip: int) -> Sequence[Record]:
        """Those of a dialect, the newest first. Raises Unstored."""
        ...

    async def under(self, key: str) -> Record | None:
        """The newest that was answered under this key. Raises Unstored."""
        ...


class Store:
    """The rows, as a `Recorder` and as `Jobs`.

    Args:
        days: how long rows are kept.
        keep_prompts: whether the prompt is part of them.
        clock: unix seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        days: float,
        keep_prompts: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._days = days
        self._keep_prompts = keep_prompts
        self._clock = clock
        self._known: dict[str, Record] = {}  # not over yet, or not written; the oldest first
        self._unwritten: dict[str, None] = {}
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._turn = asyncio.Lock()  # to write
        self._open = False
        self._expired = 0.0  # when that was last looked after
        self.trouble = ""  # what the public may know of why nothing is recorded

    # -- Recorder ---------------------------------------------------------------------------------

    def admitted(self, entry: Entry, account: str, at: float) -> None:
        self._note(recorded(entry, account, at, keep_prompt=self._keep_prompts))

    def progressed(self, job: str, index: int, step: int, steps: int) -> None:
        if (known := self._known.get(job)) and known.state == "pending":
            self._note(replace(known, state="processing", started=self._clock()))

    def painted(self, job: str, index: int, seed: int | None) -> None:
        self.progressed(job, index, 0, 0)  # of some models it is the first that is heard

    def ended(self, job: str, end: End) -> None:
        if known := self._known.get(job):
            self._note(known.ended(end))

    def answered(self, job: str, answer: Mapping[str, Any], key: str, fingerprint: str) -> None:
        if known := self._known.get(job):
            more = {"request_key": key, "fingerprint": fingerprint} if key else {}
            self._note(replace(known, answer=answer, **more))

    def _note(self, record: Record) -> None:
        self._known[record.id] = record
        self._unwritten[record.id] = None
        self._news.set()
        if len(self._known) > UNWRITTEN:
            doomed = next((each.id for each in self._known.values() if each.over), None)
            if doomed:
                log.error("job %s was never recorded: the database has failed too long", doomed)
                del self._known[doomed]
                self._unwritten.pop(doomed, None)

    # -- Jobs -------------------------------------------------------------------------------------

    async def get(self, job: str) -> Record | None:
        if known := self._known.get(job):
            return known
        found = await self._read(select(JOBS).where(JOBS.c.id == job))
        return found[0] if found else None

    async def latest(self, dialect: str, most: int, skip: int) -> Sequence[Record]:
        wanted = select(JOBS).where(JOBS.c.dialect == dialect)
        found = await self._read(wanted.order_by(JOBS.c.created.desc()).limit(skip + most))
        newer = {each.id: each for each in self._known.values() if each.dialect == dialect}
        both = {each.id: each for each in found} | newer
        ordered = sorted(both.values(), key=lambda each: each.created, reverse=True)
        return ordered[skip : skip + most]

    async def under(self, key: str) -> Record | None:
        newest = [each for each in self._known.values() if each.request_key == key]
        if newest:
            return newest[-1]
        wanted = select(JOBS).where(JOBS.c.request_key == key)
        found = await self._read(wanted.order_by(JOBS.c.created.desc()).limit(1))
        return found[0] if found else None

    async def _read(self, query: Select[Any]) -> list[Record]:
        if not self._open:
            if self.trouble:
                raise Unstored(UNREADABLE)
            return []  # it is being opened; there is nothing but what is known
        try:
            async with self._database.reading.begin() as connection:
                rows = (await connection.execute(query)).mappings().all()
        except FAULTS as error:
            log.error("jobs cannot be read: %s", _said(error))
            raise Unstored(UNREADABLE) from error
        return [_record(row) for row in rows]

    # -- Writing ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Write while the block lasts; at its end what is left, for some seconds."""
        writing = asyncio.create_task(self._write_on())
        writing.add_done_callback(self._stopped)
        try:
            yield
        finally:
            self._closing.set()
            self._news.set()
            done, _ = await asyncio.wait((writing,), timeout=CLOSE_SECONDS)
            if not done:
                writing.cancel()
                await asyncio.wait((writing,))
            if left := len(self._unwritten):
                log.error("%d jobs were never recorded", left)
            await self._database.close()

    def _stopped(self, writing: asyncio.Task[None]) -> None:
        """A bug: it costs no picture, but nobody may overlook it."""
        if not writing.cancelled() and (error := writing.exception()):
            log.error("%s: recording has stopped", self._database.file, exc_info=error)
            self.trouble = TROUBLE

    async def _write_on(self) -> None:
        while not self._closing.is_set():
            if await self.flush():
                # Now and then there are old rows to throw away.
                await _within(EXPIRE_SECONDS, self._news)
                await _within(SOON, self._closing)
            else:
                await _within(RETRY_SECONDS, self._closing)
        await self.flush()

    async def flush(self) -> bool:
        """Write what is not written, and throw away what is old. False if that failed."""
        async with self._turn:
            return await self._flush()

    async def _flush(self) -> bool:
        if not self._closing.is_set():  # or the writer would wait for more
            self._news.clear()
        try:
            if not self._open:
                await asyncio.to_thread(self._database.open, self._interrupt)
                self._open = True
            while self._unwritten:
                await self._write([*self._unwritten][:BATCH])
            await self._expire()
        except FAULTS as error:
            if not self.trouble:
                log.error("%s: %s", self._database.file, _said(error))
            self.trouble = TROUBLE
            return False
        if self.trouble:
            log.info("%s: requests are recorded again", self._database.file)
        self.trouble = ""
        return True

    def _interrupt(self, connection: Connection) -> None:
        """No other server is there, so whoever was at work on these has died."""
        unfinished = update(JOBS).where(JOBS.c.finished.is_(None))
        died = unfinished.values(state="failed", outcome=INTERRUPTED, finished=self._clock())
        if (found := connection.execute(died).rowcount) > 0:
            log.warning("%d jobs were interrupted when the server ended last", found)

    async def _write(self, ids: Sequence[str]) -> None:
        records = [self._known[each] for each in ids]
        statement = insert(JOBS)
        same = {column.name: statement.excluded[column.name] for column in JOBS.columns}
        upsert = statement.on_conflict_do_update(index_elements=["id"], set_=same)
        async with self._database.writing.begin() as connection:
            await connection.execute(upsert, [asdict(record) for record in records])
        for record in records:
            if self._known.get(record.id) is record:  # nothing was noted meanwhile
                self._unwritten.pop(record.id, None)
                if record.over:
                    del self._known[record.id]

    async def _expire(self) -> None:
        now = self._clock()
        if now - self._expired < EXPIRE_SECONDS:
            return
        old = delete(JOBS).where(JOBS.c.created < now - self._days * 86400)
        async with self._database.writing.begin() as connection:
            await connection.execute(old)
        self._expired = now


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but no longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _record(row: RowMapping) -> Record:
    values: dict[str, Any] = {**row, "seeds": tuple(row["seeds"])}
    return Record(**values)


def _said(error: Exception) -> str:
    """What went wrong, without the statement and its values: a prompt may be among them."""
    return str(error.orig if isinstance(error, StatementError) else error)
