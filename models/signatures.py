"""What functions take, worked out once: to ask anew for each picture costs half a millisecond, and
diffusers asks for each layer of attention at each step."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


@functools.cache
def signature_of(kind: type, method: str) -> inspect.Signature:
    """Without `self`."""
    return inspect.signature(functools.partial(getattr(kind, method), None))


def told_at_once(function: Callable[..., Any]) -> None:
    """Have `inspect.signature` find what it would say of a function beside it (PEP 362)."""
    if "__signature__" not in vars(function):
        function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
