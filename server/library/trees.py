"""Finds the checkpoints in a tree of folders, as other programs keep them.

A folder in the layout of diffusers is one, and so is a single file that is recognised; what lies
beside them (LoRAs, autoencoders, upscalers …) is passed over. Opens nothing but headers.
"""

import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from models import headers
from server.library.single import recognised
from server.library.traits import INDEX, traits

log = logging.getLogger(__name__)

WEIGHTS = ".safetensors"
PART = "config.json"
SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")  # of the name of one file of several
LONGEST = 64  # letters of a model's id


def checkpoints(root: Path) -> Iterator[Path]:
    """The diffusers folders and single files below `root`, in the order of their names.

    Symbolic links are followed, each place once. Of a repository in a cache of downloads only the
    newest whole snapshot counts. What cannot be read is logged and passed over.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True, onerror=_log):
        folder = Path(here)
        real = os.path.realpath(here)
        if real in seen or INDEX in files:
            folders.clear()
            if real not in seen and _is_model(folder):
                yield folder
            seen.add(real)
            continue
        seen.add(real)
        folders[:] = _worth_a_look(folder, folders)
        if PART not in files:  # such a folder is a part of a model, or of a partial download
            yield from (folder / name for name in sorted(files) if _is_checkpoint(folder / name))


def _log(error: OSError) -> None:
    log.warning("%s is passed over: %s", error.filename, error.strerror)


def _worth_a_look(folder: Path, names: Collection[str]) -> list[str]:
    if folder.name == "snapshots":
        whole = [name for name in names if (folder / name / INDEX).is_file()]
        return sorted(whole, key=lambda name: (folder / name).stat().st_mtime)[-1:]
    return sorted(name for name in names if not name.startswith(".") and name != "blobs")


def _is_model(folder: Path) -> bool:
    """Whether it is one that could be loaded, and no mere base of single files."""
    if not _is_text(folder) or not traits(folder):
        log.warning("%s is passed over: its index cannot be read", ascii(str(folder)))
        return False
    return next(headers.below(folder, WEIGHTS), None) is not None


def _is_checkpoint(path: Path) -> bool:
    if path.suffix.lower() != WEIGHTS or SHARD.search(path.stem):
        return False
    return _is_text(path) and recognised(path) is not None


def _is_text(path: Path) -> bool:
    """Whether its name can be written down."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def name_of(checkpoint: Path, taken: Collection[str] = ()) -> str:
    """An id for a checkpoint, made of its name, and unlike those that are taken."""
    if checkpoint.parent.name == "snapshots":  # models--ORG--NAME/snapshots/REVISION
        name = checkpoint.parents[1].name.rpartition("--")[2]
    else:
        name = checkpoint.stem if checkpoint.suffix.lower() == WEIGHTS else checkpoint.name
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-")[:LONGEST] or "model"
    free = (plain, *(f"{plain[: LONGEST - 4]}-{number}" for number in range(2, 1000)))
    return next(name for name in free if name not in taken)
