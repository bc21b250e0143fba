"""How much room a model's weights will take, told by the headers of its files.

Knows nothing of torch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import headers

INDEX = "model_index.json"
UNUSED = ("safety_checker",)


def numbers(path: Path, base: Path | None = None, without: Sequence[str] = ()) -> int:
    """How many numbers a model holds, but for parts named like one of `without`.

    Args:
        path: a diffusers folder, or a single file.
        base: the folder of what the single file lacks.
    """
    if base is None:
        return sum(
            in_part(path / name) for name in parts(path) if not name.startswith(away(without))
        )
    tensors = headers.shapes(path)
    stays = {name: shape for name, shape in tensors.items() if not name.startswith(starts(without))}
    more = numbers(base, without=(*without, *headers.covered(tensors)))
    return headers.numbers(stays) + more


def parts(folder: Path) -> list[str]:
    """The parts that a model's index names; none where it cannot be read."""
    try:
        index: Mapping[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return [name for name, value in index.items() if isinstance(value, list) and value[0]]
    except (OSError, ValueError, AttributeError, LookupError):
        return []


def in_part(folder: Path) -> int:
    return sum(headers.numbers(headers.shapes(path)) for path in files(folder))


def files(part: Path) -> list[Path]:
    """The weights of a part that would be loaded: of copies in several precisions one."""
    found = sorted(part.glob("*.safetensors"))
    best = headers.best_variant(path.name for path in found)
    return [path for path in found if headers.variant_of(path.name) == best]


def away(without: Sequence[str]) -> tuple[str, ...]:
    return (*without, *UNUSED)


def starts(without: Sequence[str]) -> tuple[str, ...]:
    """What the names of tensors in a single file start with that belong to these parts."""
    found = [start for part in without for start in headers.WHOLE.get(part, ())]
    return (*found, headers.INSIDE) if set(without) & {*headers.DENOISERS} else tuple(found)
