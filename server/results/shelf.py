"""The shelf that named bytes are kept on: a folder, or a bucket of an S3 service.

Every call blocks and is meant for threads. The library's asynchronous interface is left alone: its
runtime may end the process when the interpreter ends. Knows nothing of what the bytes are.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

PIECE = 256 * 1024  # bytes that are read in one go
CONNECT_SECONDS = 3
ANSWER_SECONDS = 60
RETRIES = 2
RETRY_SECONDS = 10

_UNFINISHED = re.compile(r"(.+)#[0-9]+")  # what the library writes to before it renames


class NotThere(Exception):
    """There is nothing under this name."""


class ShelfFault(Exception):
    """The shelf is full, or out of reach, or not to be written to; for the log."""


@dataclass(frozen=True, slots=True)
class Book:
    """Something on the shelf: its size in bytes, and the bytes in pieces."""

    size: int
    pieces: Iterator[bytes]


class Shelf:
    """A place for named bytes; names are plain file names.

    Args:
        url: `file:///folder`, which is made when something is put there, or `s3://bucket/prefix`,
            with credentials and region from the usual `AWS_*` variables.
        endpoint: of the S3 service, if it is not that of AWS.

    Raises:
        NotThere, ShelfFault: from every method, but for those that say otherwise.
    """

    def __init__(self, url: str, endpoint: str = "") -> None:
        self.url = url
        self._endpoint = endpoint
        split = urlsplit(url)
        self._folder = Path(unquote(split.path)) if split.scheme == "file" else None

    @cached_property
    def _store(self) -> ObjectStore:
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalStore(self._folder)
        return S3Store.from_url(
            self.url,
            config={"endpoint": self._endpoint} if self._endpoint else {},
            client_options={
                "allow_http": self._endpoint.startswith("http:"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=ANSWER_SECONDS),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            },
        )

    def doubt(self) -> str:
        """Why nothing could be put there, as far as can be told without trying; or ""."""
        if self._folder is None:
            return ""
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return ""
        return f"{there} is {'not writable' if there.is_dir() else 'no folder'}"

    def put(self, name: str, data: bytes, mime: str) -> None:
        """Keep bytes: wholly, or not at all. Raises ShelfFault."""
        attributes = None if self._folder else {"Content-Type": mime}
        with _faults(absent=ShelfFault):
            obstore.put(self._store, name, data, attributes=attributes, use_multipart=False)

    def size(self, name: str) -> int:
        """How many bytes there are under a name."""
        self._expect_folder()
        with _faults():
            return obstore.head(self._store, name)["size"]

    def open(self, name: str) -> Book:
        """What is under a name."""
        self._expect_folder()
        with _faults():
            found = obstore.get(self._store, name)
            return Book(found.meta["size"], _pieces(found.stream(min_chunk_size=PIECE)))

    def remove(self, name: str) -> None:
        """Take something away, if it is there. Raises ShelfFault."""
        with suppress(NotThere), _faults():
            obstore.delete(self._store, name)

    def sizes(self) -> Mapping[str, int]:
        """Everything there, by name. Raises ShelfFault."""
        if self._folder is not None and not self._folder.exists():
            return {}
        with _faults(absent=ShelfFault):
            listing = obstore.list(  # pyright: ignore[reportUnknownMemberType]  Arrow's
                self._store, chunk_size=1000
            )
            return {meta["path"]: meta["size"] for chunk in listing for meta in chunk}

    def unfinished(self) -> Mapping[str, Path]:
        """Files that were being written when a process died, or still are, by the name that was
        put."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        found = {path: _UNFINISHED.fullmatch(path.name) for path in self._folder.iterdir()}
        return {match[1]: path for path, match in found.items() if match}

    def _expect_folder(self) -> None:
        if self._folder is not None and not self._folder.is_dir():
            raise NotThere(self._folder)


def _pieces(stream: Iterator[bytes]) -> Iterator[bytes]:
    with _faults():
        yield from stream


@contextmanager
def _faults(absent: type[Exception] = NotThere) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise absent(_first_line(error)) from error
    except (OSError, BaseError) as error:
        raise ShelfFault(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    """What went wrong; below it the library writes pages of how."""
    return str(error).partition("\n")[0][:300]
