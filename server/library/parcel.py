"""What limner needs of a repository, and how that gets here whole.

The index of a folder goes last, so that a snapshot which has one is complete and was checked.
Knows nothing of terminals.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from models import headers, manifest
from models.manifest import Manifest
from server.library import hub
from server.library.hub import HubError, Listed, Listing, Note
from server.library.snapshots import INDEX, Repository, cache, home

WEIGHTS = ".safetensors"
INDEXED = ".index.json"  # says which of several files holds what
KEPT = (".json", ".txt", ".model", ".jinja", WEIGHTS)  # of a part; so neither code nor pickles
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
UNUSED = ("safety_checker",)
LISTED = 12  # files that a message names at most


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be fetched of a repository: the files of a folder, or a single file."""

    listing: Listing
    files: tuple[Listed, ...]
    alone: bool = False  # a single file

    @property
    def repository(self) -> Repository:
        """Where it comes from."""
        return self.listing.repository

    @property
    def folder(self) -> Path:
        """Where its snapshot goes."""
        return home(self.repository.id) / "snapshots" / self.listing.commit

    @property
    def weights(self) -> tuple[Listed, ...]:
        """Those that hold weights."""
        return tuple(file for file in self.files if file.name.endswith(WEIGHTS))

    @property
    def absent(self) -> tuple[Listed, ...]:
        """Those that are not here yet."""
        blobs = home(self.repository.id) / "blobs"
        return tuple(
            file
            for file in self.files
            if not (self.folder / file.name).exists() and not (blobs / file.blob).exists()
        )


def size(files: Iterable[Listed]) -> int:
    """Bytes of all of them."""
    return sum(file.size for file in files)


# -- What to fetch ---------------------------------------------------------------------------------


def parcel(repository: Repository, file: str = "", bare: bool = False) -> Parcel:
    """What is to be fetched: a diffusers folder without what is not needed, or one `file` of it.

    `bare` leaves the weights out: what is left is what a single file lacks.

    Raises:
        HubError: it is not there, not for everyone, or not what limner can load.
    """
    listing = hub.ask(repository)
    if file:
        return Parcel(listing, (_chosen(listing, file),), alone=True)
    if INDEX not in listing.files:
        what = "a LoRA" if listing.adapter else "no folder in the layout of diffusers"
        raise HubError(f"{repository} is {what}: it has no {INDEX}; {_offer(listing)}")
    names = needed([*listing.files], _index(listing))
    if bare:
        names = [name for name in names if not name.endswith((WEIGHTS, WEIGHTS + INDEXED))]
    return Parcel(listing, tuple(listing.files[name] for name in names))


def needed(names: Sequence[str], index: Mapping[str, Any]) -> list[str]:
    """The files of a diffusers folder, of which its index names the parts.

    Raises:
        HubError: a part has nothing but pickled weights.
    """
    parts = [
        name
        for name, value in index.items()
        if isinstance(value, list) and value[:1] not in ([], [None]) and name not in UNUSED
    ]
    inside = {part: [name for name in names if _folder(name) == part] for part in parts}
    return [INDEX, *(name for part in parts for name in _of_part(part, inside[part]))]


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _of_part(part: str, names: Sequence[str]) -> list[str]:
    """Of copies in several precisions the one that is loaded."""
    weights = [name for name in names if name.endswith(WEIGHTS)]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles and not weights:
        raise HubError(f"{part} is there only as a pickle ({pickles[0]}), which is not opened")
    best = headers.best_variant(PurePosixPath(name).name for name in weights)
    return [
        name
        for name in names
        if name.endswith(KEPT) and headers.variant_of(PurePosixPath(name).name) in ("", best)
    ]


def _index(listing: Listing) -> Mapping[str, Any]:
    """The index itself, not put into the cache yet: there it says that the snapshot is whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = hub.download(
            listing.repository, INDEX, listing.commit, manifest.silent, Path(folder)
        )
        try:
            tree: object = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise HubError(f"{listing.repository}: {INDEX} is not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise HubError(f"{listing.repository}: {INDEX} is not the index of a diffusers folder")
    return cast("Mapping[str, Any]", tree)


def _chosen(listing: Listing, file: str) -> Listed:
    if file not in listing.files:
        raise HubError(f"{listing.repository} has no file {file}; {_offer(listing)}")
    if not file.endswith(WEIGHTS):
        raise HubError(f"{file} is not a {WEIGHTS} file; nothing else is opened")
    return listing.files[file]


def _offer(listing: Listing) -> str:
    """What `--file` may choose from."""
    files = [each for each in listing.files.values() if each.name.endswith(WEIGHTS)]
    rooted = [each for each in files if "/" not in each.name] or files
    if not rooted:
        return f"it has no {WEIGHTS} files"
    names = [f"{each.name} ({each.size / 1e9:.2f} GB)" for each in rooted[:LISTED]]
    more = ["…"] if len(rooted) > LISTED else []
    return f"--file NAME fetches one of {', '.join([*names, *more])}"


# -- Fetching --------------------------------------------------------------------------------------


def check_room(mine: Parcel) -> None:
    """See that the disk has room for what is not here yet.

    Raises:
        HubError: it has not.
    """
    there = next(path for path in (cache(), *cache().absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if size(mine.absent) > free:
        need = size(mine.absent) / 1e9
        raise HubError(f"{need:.2f} GB are to be fetched, and {there} has {free / 1e9:.2f} GB free")


def fetch(mine: Parcel, note: Note) -> None:
    """Download what is not here yet, but for the index of a folder: `finish` fetches that.

    One file after the other, in the calling thread: the library fetches the pieces of a large one
    at once, and an interrupt reaches it. What is complete stays, whatever happens then.

    Raises:
        HubError: it cannot be fetched.
        KeyboardInterrupt: somebody has had enough.
    """
    for file in mine.files:
        if file.name != INDEX:
            hub.download(mine.repository, file.name, mine.listing.commit, note)


def check(mine: Parcel, note: Note) -> Manifest:
    """Hash the weights, and compare with what the hub says of them.

    Raises:
        HubError: one differs. It is removed, so that it will be fetched again.
    """
    entries: dict[str, manifest.Entry] = {}
    for file in mine.weights:
        path = mine.folder / file.name
        entries[file.name] = manifest.entry(path, note)
        if file.sha256 and entries[file.name].sha256 != file.sha256:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise HubError(
                f"{mine.repository}: {file.name} is damaged: its SHA-256 is not what the hub "
                "says; it was removed, and running this again fetches it anew"
            )
    return entries


def finish(mine: Parcel) -> Path:
    """Make the snapshot the one that its revision leads to; the folder, or the single file.

    Raises:
        HubError: the repository was changed meanwhile, or cannot be reached any more.
    """
    if mine.alone:  # the revision goes on leading to the whole folder that may be here of it
        return mine.folder / mine.files[0].name
    path = hub.download(mine.repository, INDEX, mine.repository.revision, manifest.silent)
    if path.parent != mine.folder:
        raise HubError(f"{mine.repository} was changed meanwhile; run this again")
    return path.parent
