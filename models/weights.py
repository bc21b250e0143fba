"""How much room a model's weights will take, told by the headers of its files.

Knows nothing of torch.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import headers

INDEX = "model_index.json"
UNUSED = ("safety_checker",)
SCALE_BYTES = 4  # of the factor of each row of a weight in 8 bits
LARGE = 1 << 20  # numbers; of smaller layers 8 bits save nothing worth the loss
BLOCK = re.compile(r"(?:^|[._])(?:blocks|layers)\.\d+\.")  # in the name of what lies in a block
SENSITIVE = ("norm", "mod")  # layers that steer all others, with a single row at a time


def numbers(path: Path, base: Path | None = None, without: Sequence[str] = ()) -> int:
    """How many numbers a model holds, but for parts named like one of `without`.

    Args:
        path: a diffusers folder, or a single file.
        base: the folder of what the single file lacks.
    """
    if base is None:
        return sum(in_part(path / name) for name in parts(path) if not away(name, without))
    tensors = headers.shapes(path)
    stays = {name: shape for name, shape in tensors.items() if not away_in_file(name, without)}
    lacking = [
        name for name in parts(base) if not (away(name, without) or held(base, name, tensors))
    ]
    return headers.numbers(stays) + sum(in_part(base / name) for name in lacking)


def is_large(name: str, shape: Sequence[int]) -> bool:
    """Whether a transformer's tensor is a weight that `fp8` puts in 8 bits: of a block's own, and
    of a form that GPUs take."""
    block = BLOCK.search(name)
    if block is None or not name.endswith(".weight") or len(shape) != 2:
        return False
    inside = name[block.end() :].lower()
    fits = not any(side % 16 for side in shape) and math.prod(shape) >= LARGE
    return fits and not any(word in inside for word in SENSITIVE)


def spared(path: Path, base: Path | None, itemsize: int) -> int:
    """Bytes that a model takes less with `fp8` than with numbers of `itemsize` bytes."""
    found = [path] if base else files(path / "transformer")
    shapes = [
        shape
        for file in found
        for name, shape in headers.shapes(file).items()
        if headers.part_of(name) == "denoiser" and is_large(name, shape)
    ]
    factors = sum(SCALE_BYTES * shape[0] for shape in shapes)
    return sum(math.prod(shape) for shape in shapes) * (itemsize - 1) - factors


def held(base: Path, name: str, tensors: headers.Shapes) -> bool:
    """Whether a single file has a part, or only its base."""
    covered = headers.covered(tensors)
    if name.startswith("text_encoder"):
        return ("t5" if is_t5(base, name) else "text_encoder") in covered
    return name in covered


def is_t5(base: Path, name: str) -> bool:
    """Whether a part of a folder is a T5 encoder, by the class that its index names."""
    return "T5" in str(index(base).get(name))


def parts(folder: Path) -> list[str]:
    """The parts that a model's index names; none where it cannot be read."""
    return [
        name
        for name, value in index(folder).items()
        if isinstance(value, list) and value[:1] not in ([], [None])
    ]


def index(folder: Path) -> Mapping[str, Any]:
    """A model's index; empty where it cannot be read."""
    try:
        tree: object = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def in_part(folder: Path) -> int:
    return sum(headers.numbers(headers.shapes(path)) for path in files(folder))


def in_file(file: Path) -> int:
    """How many numbers a file holds."""
    return headers.numbers(headers.shapes(file))


def files(part: Path) -> list[Path]:
    """The weights of a part that would be loaded: of copies in several precisions one."""
    found = sorted(part.glob("*.safetensors"))
    best = headers.best_variant(path.name for path in found)
    return [path for path in found if headers.variant_of(path.name) == best]


def away(name: str, without: Sequence[str]) -> bool:
    return name.startswith((*without, *UNUSED))


def away_in_file(name: str, without: Sequence[str]) -> bool:
    """Whether a tensor of a single file belongs to one of these parts."""
    part = headers.part_of(name)
    if part == "other":
        return True
    if part == "denoiser":
        return bool({*without} & {*headers.DENOISERS})
    return ("text_encoder" if part == "t5" else part) in without
