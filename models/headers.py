"""What a `.safetensors` file holds, told by its first kilobytes: names and shapes, no numbers.

Standard library only, so that a server may ask as well. Knows nothing of architectures.
"""

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]  # of the tensors, by name

HEADER_BYTES = 100_000_000  # the most that the format allows

# Copies of weights in other precisions than the plain one, by a part of their file's name; the best
# first.
VARIANTS = ("bf16", "fp16", "fp32", "ema_only", "non_ema")
_VARIANT = re.compile(rf"\.({'|'.join(sorted(VARIANTS))})(?=[.-])")

# What the names of tensors start with in files that hold a whole model, by the part of a diffusers
# folder that is not needed then. All CLIPs are one: no file has one without the other.
WHOLE: Mapping[str, tuple[str, ...]] = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.", "text_encoders.clip_"),
    "t5": ("text_encoders.t5xxl.",),
}
OTHERS = ("text_encoders.",)  # encoders that are not read from single files
DENOISERS = ("unet", "transformer")
INSIDE = "model.diffusion_model."  # what a denoiser's names start with among other parts


def variant_of(name: str) -> str:
    """Which copy a file is, told by its name; empty for the plain one."""
    found = _VARIANT.search(name)
    return found[1] if found else ""


def best_variant(names: Iterable[str]) -> str:
    """Which of several copies in these files to take: the plain one if there is one."""
    found = {variant_of(name) for name in names}
    return "" if "" in found or not found else min(found, key=VARIANTS.index)


def shapes(path: Path) -> Shapes:
    """The tensors of a file; none of one that cannot be read (loading it says why)."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return {}
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: Mapping[str, Any] = json.loads(file.read(min(length, HEADER_BYTES)))
        return {
            name: tuple(map(int, entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, struct.error),
        *(RecursionError, OverflowError),
    ):
        return {}


def part_of(name: str) -> str:
    """The part that a tensor of a single file belongs to: one of `WHOLE`, "other", "denoiser"."""
    part = next((part for part, starts in WHOLE.items() if name.startswith(starts)), "")
    return part or ("other" if name.startswith(OTHERS) else "denoiser")


def below(folder: Path, ending: str) -> Iterator[Path]:
    """The files of a folder and of those in it whose names end so, by name; links are followed,
    each place once."""
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(here) / name for name in sorted(names) if name.endswith(ending))


def numbers(tensors: Shapes) -> int:
    """How many numbers they hold together."""
    return sum(math.prod(shape) for shape in tensors.values())


def covered(tensors: Shapes) -> tuple[str, ...]:
    """The parts that a single file stands in for: of `WHOLE`, and its denoiser always."""
    return (*DENOISERS, *sorted({part_of(name) for name in tensors} & {*WHOLE}))
