"""What a `.safetensors` file holds, told by its first kilobytes: names and shapes, no numbers.

Standard library only, so that a server may ask as well. Knows nothing of architectures.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]  # of the tensors, by name

HEADER_BYTES = 100_000_000  # the most that the format allows

# Copies of weights in other precisions than the plain one, by a part of their file's name; the best
# first.
VARIANTS = ("bf16", "fp16", "fp32", "ema_only", "non_ema")
_VARIANT = re.compile(rf"\.({'|'.join(sorted(VARIANTS))})(?=[.-])")

# What the names of each part's tensors start with, in files that hold a whole model: the part of a
# diffusers folder that is not needed then. Several text encoders count as one part.
WHOLE: Mapping[str, tuple[str, ...]] = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.", "text_encoders."),
}
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
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: Mapping[str, Any] = json.loads(file.read(min(length, HEADER_BYTES)))
        return {
            name: tuple(map(int, entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return {}


def numbers(tensors: Shapes) -> int:
    """How many numbers they hold together."""
    return sum(math.prod(shape) for shape in tensors.values())


def covered(tensors: Shapes) -> tuple[str, ...]:
    """The parts of a diffusers folder that a single file stands in for: its denoiser always."""
    held = [part for part, starts in WHOLE.items() if any(n.startswith(starts) for n in tensors)]
    return (*DENOISERS, *held)
