"""What each architecture wants: one small file of knowledge per family, no loops.

Importing this package imports no family, so that a worker holds only what its models need.
"""

import importlib
from collections.abc import Callable
from typing import TypeAlias

from models.canvas import Model
from models.contract import ModelSpec

# A family's `load`: the model on the named device, ready to paint.
Load: TypeAlias = Callable[[ModelSpec, str], Model]

MODULES = {
    "sd": "models.families.sd",
    "sdxl": "models.families.sdxl",
    "sd3": "models.families.sd3",
    "flux": "models.families.flux",
    "flux2": "models.families.flux2",
    "qwen-image": "models.families.qwen_image",
    "z-image": "models.families.z_image",
    "generic": "models.families.generic",
    "toy": "models.families.toy",
}

TORCHLESS = frozenset({"toy"})


def loader(family: str) -> Load:
    """The function that loads models of a family.

    Raises:
        KeyError: no such family.
    """
    if family not in TORCHLESS:
        importlib.import_module("models.vision")  # ahead of diffusers
    return importlib.import_module(MODULES[family]).load
