"""`limner pull`: says what a repository would cost, fetches it, checks it. Speaks to a terminal."""

import json
import logging
import sys
from pathlib import Path

from models import manifest
from models.manifest import Manifest
from server.commands import terminal
from server.library import parcel
from server.library.hub import HubError
from server.library.parcel import Parcel, size
from server.library.snapshots import Repository
from server.settings.config import Config

INTERRUPTED = 130  # the exit code of what SIGINT ended


def pull(
    repository: Repository,
    file: str,
    config: Path | None,
    *,
    bare: bool = False,
    dry: bool = False,
    sure: bool = False,
) -> None:
    """Fetch a repository into the cache, or tell what that would be; exit 1 if it cannot be.

    `file` names the one file to fetch; empty: what a diffusers folder needs, or if `bare`, what of
    it a single file lacks.
    """
    settings = terminal.read(config, {})
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        mine = parcel.parcel(repository, file, bare)
        print(told(mine))
        parcel.check_room(mine)
        if dry:
            return
        if not sure and terminal.people() and mine.absent and not terminal.agreed("fetch it?"):
            raise SystemExit(1)
        path = fetched(mine, settings)
        if not bare:
            print(hint(mine, path))
    except HubError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print("interrupted; complete files stay, run it again to go on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def told(mine: Parcel) -> str:
    """What would be fetched, of whom, and where to."""
    absent, whole = size(mine.absent), size(mine.files)
    here = "" if absent == whole else f", of which {terminal.amount(whole - absent)} are here"
    source = f"{mine.repository} at {mine.listing.commit[:12]}"
    return (
        f"{source}: {terminal.files(len(mine.files))}, {terminal.amount(whole)}{here}\n"
        f"licence: {mine.listing.licence or 'not named'}\n"
        f"to: {mine.folder}"
    )


def fetched(mine: Parcel, config: Config) -> Path:
    """Download, check, write the manifest; the folder or the file."""
    with terminal.bar() as progress:
        task = progress.add_task("fetching", total=size(mine.absent))
        parcel.fetch(mine, lambda count: progress.advance(task, count))
        progress.reset(task, description="checking", total=size(mine.weights))
        found = parcel.check(mine, lambda count: progress.advance(task, count))
    path = parcel.finish(mine)
    if not found:
        return path
    keep(found, path, config)
    print(f"weights: {terminal.files(len(found))} with the SHA-256 that the hub says")
    return path


def keep(found: Manifest, path: Path, config: Config) -> None:
    """Write a manifest; that there is no room for it is no reason to have fetched in vain."""
    if path.is_file():
        found = {path.name: next(iter(found.values()))}
    try:
        manifest.save(found, manifest.place(config.server.data_dir, path), path)
    except OSError as error:
        print(f"its manifest cannot be written: {error}", file=sys.stderr)


def hint(mine: Parcel, path: Path) -> str:
    """How to serve what was fetched."""
    name = mine.repository.id.partition("/")[2].lower()
    if mine.listing.adapter and mine.alone:
        table = {"name": path.stem.lower(), "path": str(path), "model": "MODEL"}
        return "\n" + "\n".join(["[[lora]]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())])
    where = str(path) if mine.alone else mine.repository.path
    return f'\nlimner serve --model {name}={where}\n\n[[model]]\nid = "{name}"\npath = "{where}"'
