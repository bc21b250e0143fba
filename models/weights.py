"""How much room a model's weights will take, told by the headers of its files.

Reads a few kilobytes of each `.safetensors` file. Knows nothing of torch.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADER_BYTES = 100_000_000  # the most that the format allows
VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema|ema_only)(?=[.-])")  # part of a file's name
INDEX = "model_index.json"
UNUSED = ("safety_checker",)


def numbers(folder: Path, without: Sequence[str] = ()) -> int:
    """How many numbers the parts of a model hold, but for parts named like one of `without`."""
    names = [name for name in parts(folder) if not name.startswith((*without, *UNUSED))]
    return sum(held(path) for name in names for path in files(folder / name))


def parts(folder: Path) -> list[str]:
    """The parts that a model's index names; none where it cannot be read."""
    try:
        index: Mapping[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return [name for name, value in index.items() if isinstance(value, list) and value[0]]
    except (OSError, ValueError, AttributeError, LookupError):
        return []


def files(part: Path) -> Iterator[Path]:
    """The weights of a part that would be loaded: of copies in several precisions the plain one."""
    found = sorted(part.glob("*.safetensors"))
    plain = [path for path in found if not VARIANT.search(path.name)]
    return iter(plain or found)


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
