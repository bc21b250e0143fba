"""The checkpoints that this machine holds: those in the hub's cache, and those configured.

Knows nothing of terminals.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from server.library import snapshots
from server.library.traits import traits
from server.settings.config import Config
from server.settings.stock import checkpoint


@dataclass(frozen=True, slots=True)
class Holding:
    """A checkpoint that can be served, or could be if it were there."""

    path: str  # what to write as the path of a model
    family: str
    size: int  # bytes on disk
    used: float | None  # when it was last read as far as is known, seconds since 1970
    models: tuple[str, ...]  # the ids under which it is configured
    there: bool = True


def holdings(config: Config) -> tuple[list[Holding], list[str]]:
    """All of them, each once, configured or not; and what of the cache cannot be read."""
    found, unreadable = snapshots.snapshots()
    here = {each.folder: _cached(each) for each in found}
    others: dict[Path, Holding] = {}
    for model in config.model:
        if model.path:
            path = checkpoint(model)
            rows = here if path in here else others
            row = rows.get(path) or _configured(model.path, model.family, path)
            rows[path] = replace(row, models=(*row.models, model.id))
    return [*here.values(), *others.values()], unreadable


def _cached(each: snapshots.Snapshot) -> Holding:
    family = str(traits(each.folder).get("family", "-"))
    return Holding(each.repository.path, family, each.size, each.used, ())


def _configured(path: str, family: str, place: Path) -> Holding:
    stats = [file.stat() for file in _files(place)]
    return Holding(
        path=path,
        family=family if place.exists() else "-",
        size=sum(stat.st_size for stat in stats),
        used=max((stat.st_atime for stat in stats), default=None),
        models=(),
        there=place.exists(),
    )


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    yield from (path for path in place.rglob("*") if path.is_file())
