"""The database: an SQLite file, brought up to date when it is opened, and its connections.

Write-ahead logging, so that readers and the one writer do not wait for each other. Knows nothing of
what the tables are for.
"""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Engine, create_engine, event, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

SCHEME = "sqlite:///"
BUSY_SECONDS = 10  # to wait for another process's transaction
READERS = 2
MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0001"  # the newest of them
PRAGMAS = (
    f"busy_timeout = {BUSY_SECONDS * 1000}",
    "journal_mode = WAL",
    "synchronous = NORMAL",  # a power cut may take the last rows, and nothing else
    "foreign_keys = ON",
)


def file_of(url: str, data_dir: Path) -> Path:
    """The file that `sqlite:///…` names; a relative one is in `data_dir`."""
    return data_dir / Path(url.removeprefix(SCHEME)).expanduser()


class Unusable(Exception):
    """The file holds tables that this version does not understand."""


class Database:
    """One file. `close` it in the loop in which it was used.

    Attributes:
        writing, reading: transactions of the former hold the file's only lock for writing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.writing = _connected(file, "BEGIN IMMEDIATE", 1)
        self.reading = _connected(file, "BEGIN", READERS)
        self._held: IO[bytes] | None = None

    def open(self, if_alone: Callable[[Connection], None]) -> None:
        """Make the file if it is not there and bring its tables up to date. Blocks; for a thread.

        Args:
            if_alone: called in the same transaction, if no other process has the file open.

        Raises:
            OSError, SQLAlchemyError, Unusable: it cannot be used.
        """
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._held is None:
            self._held = self.file.with_name(f"{self.file.name}.lock").open("ab")
        alone = _alone(self._held)
        engine = create_engine(f"{SCHEME}{self.file}")
        _prepare(engine, "BEGIN IMMEDIATE")
        try:
            # In one transaction, so that a second process waits, and then finds nothing to do.
            with engine.begin() as connection:
                migrate(connection)
                if alone:
                    if_alone(connection)
        finally:
            engine.dispose()
            fcntl.flock(self._held, fcntl.LOCK_SH)

    async def close(self) -> None:
        """Give everything back."""
        await self.writing.dispose()
        await self.reading.dispose()
        if self._held is not None:
            self._held.close()
            self._held = None


def _alone(held: IO[bytes]) -> bool:
    """Take the lock that lasts as long as the process, however it ends; whether it is the only one.

    Raises:
        BlockingIOError: another process is just opening the file.
    """
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False


def migrate(connection: Connection) -> None:
    """Take all steps that the tables lack.

    Raises:
        Unusable: they are of a newer version than this one.
    """
    if _version(connection) == HEAD:
        return
    # Seldom needed, and large: a tenth of the server's memory.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Unusable(f"its tables are of another version of limner: {error}") from error


def _version(connection: Connection) -> str:
    """The last step that was taken; "" before the first."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())


def _connected(file: Path, begin: str, connections: int) -> AsyncEngine:
    url = f"sqlite+aiosqlite:///{file}"
    engine = create_async_engine(url, pool_size=connections, max_overflow=0)
    _prepare(engine.sync_engine, begin)
    return engine


def _prepare(engine: Engine, begin: str) -> None:
    def connected(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        driver: Any = connection
        driver.isolation_level = None  # so that the driver begins nothing of its own accord
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
