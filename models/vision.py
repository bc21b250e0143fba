"""Makes a torchvision that was built for CUDA importable beside a torch that was not.

Package indexes pair the two by version alone, and then torchvision fails over two operators that it
expects of its own library, and with it everything that imports it. Nothing here calls them, so it
is enough that they exist. Imported for that effect, ahead of transformers and diffusers.
"""

import importlib.util

import torch

OPERATORS = ("nms", "qnms")  # each with the same arguments


def declare() -> torch.library.Library | None:
    """Declare the operators; None where torch and torchvision fit, or there is no torchvision."""
    if torch.version.cuda or not importlib.util.find_spec("torchvision"):
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


LIBRARY = declare()  # the declarations last as long as it does
