"""What commands share: reading the configuration, tables, questions, bars. Speaks to a terminal."""

import contextlib
import ipaddress
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from server.settings.config import Config, ConfigError, load

Overrides = Mapping[str, Mapping[str, object]]
Named = Sequence[tuple[str, str]]  # models by id, and their paths

ENDLESS = 10_000  # columns of a table that is read by a program


def read(
    path: Path | None, overrides: Overrides, models: Named = (), model_dirs: Sequence[Path] = ()
) -> Config:
    """The configuration, or the end."""
    try:
        return load(path, overrides, models, model_dirs)
    except ConfigError as error:
        raise SystemExit(str(error)) from None


def local_address(host: str, port: int) -> str:
    """The URL of a server that listens there, for programs of this machine."""
    with contextlib.suppress(ValueError):  # a name is no address
        if ipaddress.ip_address(host).is_unspecified:  # any address, so this machine's too
            host = "::1" if ":" in host else "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}"


def show(rows: Sequence[Sequence[str]], *columns: str) -> None:
    """Print a table that can be read by people and cut by programs: no lines, nothing shortened."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else ENDLESS
    rich.console.Console(width=width, markup=False, highlight=False).print(table)


def agreed(question: str) -> bool:
    """Ask; anything but yes is no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def people() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def bar() -> Progress:
    """One bar of bytes on stderr, with speed and time left; gone when it is done."""
    console = rich.console.Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(
        *(*columns, TransferSpeedColumn(), TimeRemainingColumn()),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def files(count: int) -> str:
    """So many files, for people."""
    return "1 file" if count == 1 else f"{count} files"


def amount(size: int) -> str:
    """Bytes for people."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size / 1e3:.1f} kB"
