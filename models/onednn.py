"""Where layers of a network may ask oneDNN by themselves, and how they are told to."""

from contextvars import ContextVar
from typing import Any, TypeVar

import torch

from models.merge import Forward, Way

T = TypeVar("T")


def usable() -> bool:
    """Whether this processor is of the kind on which that was measured."""
    cpu = torch.backends.cpu.get_cpu_capability()
    return torch.backends.mkldnn.is_available() and cpu == "AVX512"


def told(variable: ContextVar[T], value: T, way: Way) -> Way:
    """The way, in which layers find the variable at that value."""

    def run(forward: Forward) -> Any:
        before = variable.set(value)
        try:
            return way(forward)
        finally:
            variable.reset(before)

    return run
