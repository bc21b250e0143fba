"""How much room a model's weights will take, told by the headers of its files.

Reads a few kilobytes of each `.safetensors` file. Knows nothing of torch.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADER_BYTES = 100_000_000  # the most that the format allows
VARIANTS = (".fp16.", ".bf16.", ".fp32.", ".non_ema.", ".ema_only.")


def numbers(folder: Path, without: Sequence[str] = ()) -> int:
    """How many numbers the files of a model's parts hold; copies in other precision not counted,
    nor parts whose folders' names begin with one of `without`."""
    away = tuple(without)
    return sum(held(path) for path in files(folder) if not path.parent.name.startswith(away))


def files(folder: Path) -> Iterator[Path]:
    """The weights that would be loaded: those beside an index of what the model is."""
    found = sorted(folder.rglob("*.safetensors"))
    for path in found:
        plain = [path.with_name(path.name.replace(mark, ".")) for mark in VARIANTS]
        if not any(other != path and other in found for other in plain):
            yield path


def held(path: Path) -> int:
    """Numbers in one file; 0 for one that cannot be read (loading it says why)."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: Mapping[str, Any] = json.loads(file.read(min(length, HEADER_BYTES)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(math.prod(tensor["shape"]) for tensor in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return 0
