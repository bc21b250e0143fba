"""Finds the checkpoints in a tree of folders, as other programs keep them.

A folder in the layout of diffusers is one, and so is a single file that is recognised; what lies
beside them (LoRAs, autoencoders, upscalers …) is passed over. Opens nothing but headers.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from server.single import recognised
from server.traits import INDEX

LONGEST = 64  # letters of a model's id


def checkpoints(root: Path) -> Iterator[Path]:
    """The diffusers folders and single files below `root`, in the order of their names.

    Symbolic links are followed, each place once. Of a repository in a cache of downloads only the
    newest snapshot counts.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True):
        folder = Path(here)
        real = os.path.realpath(here)
        if real in seen or INDEX in files:
            folders.clear()
            if real not in seen:
                seen.add(real)
                yield folder
            continue
        seen.add(real)
        folders[:] = _worth_a_look(folder, folders)
        yield from (folder / name for name in sorted(files) if _is_checkpoint(folder / name))


def _worth_a_look(folder: Path, names: Collection[str]) -> list[str]:
    if folder.name == "snapshots":
        return sorted(names, key=lambda name: (folder / name).stat().st_mtime)[-1:]
    return sorted(name for name in names if not name.startswith(".") and name != "blobs")


def _is_checkpoint(path: Path) -> bool:
    return path.suffix == ".safetensors" and recognised(path) is not None


def name_of(checkpoint: Path, taken: Collection[str] = ()) -> str:
    """An id for a checkpoint, made of its name, and unlike those that are taken."""
    if checkpoint.parent.name == "snapshots":  # models--ORG--NAME/snapshots/REVISION
        name = checkpoint.parents[1].name.rpartition("--")[2]
    else:
        name = checkpoint.stem if checkpoint.suffix == ".safetensors" else checkpoint.name
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-")[:LONGEST] or "model"
    free = (plain, *(f"{plain[: LONGEST - 4]}-{number}" for number in range(2, 1000)))
    return next(name for name in free if name not in taken)
