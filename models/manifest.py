"""What a checkpoint's weights were when they were good: size, time and SHA-256 of each file.

The format of the weights has no checksum: flipped bytes load, and paint nonsense. Imports nothing
heavy, so that server and worker may both use it. Knows nothing of where checkpoints come from.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from models import headers

FORMAT = 1
BLOCK_BYTES = 1 << 22
SHOWN = 3  # files that a sentence about damage names

Note: TypeAlias = Callable[[int], None]  # told of every so many bytes that were hashed


class ManifestError(Exception):
    """A manifest cannot be read; the text names it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of weights."""

    size: int  # bytes
    mtime_ns: int
    sha256: str  # hexadecimal


Manifest: TypeAlias = Mapping[str, Entry]  # by the file's path inside its checkpoint


def silent(count: int) -> None:
    """Tell nobody."""


def weights(checkpoint: Path) -> dict[str, Path]:
    """The files of weights of a folder, or of a checkpoint that is one file, by their names."""
    if checkpoint.is_file():
        return {checkpoint.name: checkpoint}
    # A link that leads nowhere is as good as no file.
    found = [path for path in headers.below(checkpoint, ".safetensors") if path.is_file()]
    return {path.relative_to(checkpoint).as_posix(): path for path in found}


def place(data_dir: Path, checkpoint: Path) -> Path:
    """Where the manifest of a checkpoint is kept, whether there is one or not."""
    # Of a single file only the folder is resolved: in a cache the file is a link to a bare hash.
    single = checkpoint.is_file()
    known = checkpoint.parent.resolve() / checkpoint.name if single else checkpoint.resolve()
    digest = hashlib.sha256(os.fsencode(known)).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", known.name)[:64]
    return data_dir / "manifests" / f"{name}-{digest}.json"


def sha256(path: Path, note: Note = silent) -> str:
    """The hexadecimal SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            note(len(block))
    return digest.hexdigest()


def entry(path: Path, note: Note = silent) -> Entry:
    """What a file is now.

    Raises:
        OSError: it cannot be read.
    """
    before = path.stat()  # a file that is written to meanwhile must not look unchanged later
    return Entry(before.st_size, before.st_mtime_ns, sha256(path, note))


def record(checkpoint: Path, note: Note = silent) -> Manifest:
    """What the weights of a checkpoint are now.

    Raises:
        OSError: a file cannot be read.
    """
    return {name: entry(path, note) for name, path in weights(checkpoint).items()}


def save(manifest: Manifest, path: Path, checkpoint: Path) -> None:
    """Write a manifest; a reader sees the old or the new one, whole.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {name: asdict(each) for name, each in manifest.items()}
    tree = {"format": FORMAT, "checkpoint": str(checkpoint), "files": files}
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(tree, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it is not there, or is no manifest of this format.
    """
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            raise ManifestError(f"the manifest {path} has the format {tree['format']!r:.20}")
        return {str(name): Entry(**each) for name, each in tree["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"the manifest {path} cannot be read: {error}") from None


def differences(known: Manifest, now: Manifest) -> list[str]:
    """In what weights differ from what is known of them: a sentence for each file that does.

    Files that nothing is known of differ in nothing.
    """
    return [
        f"{name} {what}" for name, was in known.items() if (what := _compared(was, now.get(name)))
    ]


def changes(checkpoint: Path, known: Manifest, note: Note = silent) -> list[str]:
    """The `differences` of what is there, found quickly: what has its time and size is trusted.

    Raises:
        OSError: a file cannot be read.
    """
    files = {name: path for name, path in weights(checkpoint).items() if name in known}
    return differences(known, {name: _now(path, known[name], note) for name, path in files.items()})


def summary(told: list[str]) -> str:
    """The first few of some differences in one sentence."""
    more = len(told) - SHOWN
    return "; ".join([*told[:SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _now(path: Path, known: Entry, note: Note) -> Entry:
    """What a file is now; hashed only where its time, and not its size, differs."""
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (known.size, known.mtime_ns):
        return known
    if stat.st_size != known.size:
        return Entry(stat.st_size, stat.st_mtime_ns, "")
    return entry(path, note)


def _compared(was: Entry, now: Entry | None) -> str:
    """What is wrong with a file; empty if nothing is."""
    if now is None:
        return "is missing"
    if now.size != was.size:
        return f"has {now.size} bytes and had {was.size}"
    return "" if now.sha256 == was.sha256 else "has other contents than it had (by SHA-256)"
