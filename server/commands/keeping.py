"""`limner ls`, `rm` and `verify`: the checkpoints on this machine. Speaks to a terminal."""

import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models import manifest
from models.manifest import Manifest, ManifestError
from server.commands import terminal
from server.commands.holdings import Holding, holdings
from server.library import snapshots
from server.library.snapshots import Repository
from server.settings.config import Config
from server.settings.offers import ModelTable
from server.settings.stock import missing, places


def ls(config: Path | None, as_json: bool) -> None:
    """Print the checkpoints that can be served."""
    found, unreadable = holdings(terminal.read(config, {}))
    for why in unreadable:
        print(why, file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1))
        return
    rows = [_row(each) for each in found]
    terminal.show(rows, "path", "family", "size", "last used", "configured as")


def _row(each: Holding) -> tuple[str, ...]:
    size = terminal.amount(each.size) if each.there else "not here"
    day = datetime.datetime.fromtimestamp(each.used, datetime.UTC).date() if each.used else "-"
    return each.path, each.family, size, str(day), ", ".join(each.models) or "-"


# -- Removing --------------------------------------------------------------------------------------


def rm(repository: Repository, whole: bool, sure: bool, config: Path | None) -> None:
    """Remove a repository from the cache (`whole`), or one revision of it."""
    settings = terminal.read(config, {})
    doomed = snapshots.deletion(repository, whole)
    if doomed is None:
        raise SystemExit(f"{repository} is not in {snapshots.cache()}; `limner ls` tells what is")
    print(f"{repository}: removing it frees {terminal.amount(doomed.size)}")
    for model in settings.model:
        if any(_within(place, doomed.folders) for place in places(model)):
            print(f"[[model]] {model.id} is served from it", file=sys.stderr)
    if not sure:
        if not terminal.people():
            raise SystemExit("nothing was removed: there is nobody to ask, and no --yes")
        if not terminal.agreed("remove it?"):
            raise SystemExit(1)
    notes = [manifest.place(settings.server.data_dir, folder) for folder in doomed.folders]
    doomed.execute()
    for note in notes:
        note.unlink(missing_ok=True)


def _within(place: Path, folders: Sequence[Path]) -> bool:
    return any(place == folder or folder in place.parents for folder in folders)


# -- Verifying -------------------------------------------------------------------------------------


def verify(names: Sequence[str], renew: bool, config: Path | None) -> None:
    """Hash the weights of configured models, all that are there if none are named.

    Exit 1 if files differ from their manifest, each of which is named.
    """
    settings = terminal.read(config, {})
    results = [
        _verified(model.id, place, settings, renew)
        for model in _models(names, settings)
        for place in places(model)
    ]
    if not all(results):
        raise SystemExit(1)


def _models(names: Sequence[str], config: Config) -> list[ModelTable]:
    absent = missing(config)
    known = {model.id: model for model in config.model}
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no model {name}; there are {', '.join(known)}")
        if name in absent:
            raise SystemExit(absent[name])
        if not known[name].path:
            raise SystemExit(f"{name} has no weights")
    there = [name for name, model in known.items() if model.path and name not in absent]
    return [known[name] for name in names or there]


def _verified(name: str, path: Path, config: Config, renew: bool) -> bool:
    place = manifest.place(config.server.data_dir, path)
    files = manifest.weights(path)
    try:
        known: Manifest = {}
        if place.exists() and not renew:
            known = manifest.load(place)
        with terminal.bar() as progress:
            total = sum(file.stat().st_size for file in files.values())
            task = progress.add_task(name, total=total)
            now = manifest.record(path, lambda count: progress.advance(task, count))
        return _compared(name, path, place, known, now)
    except ManifestError as error:
        print(f"{name}: {error}; --renew writes it anew", file=sys.stderr)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
    return False


def _compared(name: str, path: Path, place: Path, known: Manifest, now: Manifest) -> bool:
    """Say in what they differ; remember files that are new, and times that are."""
    if wrong := manifest.differences(known, now):
        folder = path.parent if path.is_file() else path
        print("\n".join(f"{name}: {folder / each}" for each in wrong), file=sys.stderr)
        return False
    fresh = len(now.keys() - known.keys())
    if now != known:
        manifest.save(now, place, path)
    what = (
        f"recorded {terminal.files(fresh)}" if fresh else f"{terminal.files(len(now))} as recorded"
    )
    print(f"{name}: {what}")
    return True
