"""What text encoders made of prompts, remembered: n images, another seed, the same negative prompt.

Exact: what is remembered is what would be computed again. Knows pipelines only by `encode_prompt`.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from inspect import Signature
from typing import Any

import torch

from models.signatures import signature_of

METHODS = ("encode_prompt", "_encode_prompt")  # by whichever name a pipeline calls it
MOST = 64  # prompts
MOST_BYTES = 256 * 2**20  # of a model; a long prompt of a large one takes four megabytes


class Recall:
    """The least recently used go first. Of one model: its weights are no part of what is compared.

    Args:
        most: entries.
        most_bytes: of their tensors.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of the tensors that are kept."""
        return sum(size for _, size in self._kept.values())

    def attach(self, own: Any, dress: Hashable) -> None:
        """Have a pipeline object of one's own ask here before it reads a prompt.

        Args:
            dress: the adapters that its text encoders wear.
        """
        for name in METHODS:
            method = getattr(own, name, None)
            if method is not None:
                signature = signature_of(type(own), name)
                kept = self._remembering(method, signature, (type(own), name, dress))
                setattr(own, name, kept)

    def _remembering(
        self, method: Callable[..., Any], signature: Signature, kind: Hashable
    ) -> Callable[..., Any]:

        @functools.wraps(method)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            said = comparable(bound.arguments)
            if said is None:
                return method(*args, **kwargs)
            return self._recalled((kind, said), lambda: method(*args, **kwargs))

        return replacement

    def _recalled(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key in self._kept:
            self._kept.move_to_end(key)
            return copied(self._kept[key][0])
        value = make()
        size = sum(tensor.nbytes for tensor in tensors(value))
        if size <= self._most_bytes:
            self._kept[key] = copied(value), size
            while len(self._kept) > self._most or self.size > self._most_bytes:
                self._kept.popitem(last=False)
        return value


def comparable(value: Any) -> Hashable:
    """Arguments as something that is equal when they are; None where that cannot be told, as of
    images and tensors."""
    if isinstance(value, Mapping):
        pairs = [(name, comparable(part)) for name, part in value.items()]
        return None if any(part is None for _, part in pairs) else ("mapping", *pairs)
    if isinstance(value, list | tuple):
        parts = [comparable(part) for part in value]
        return None if None in parts else (type(value), *parts)
    if value is None or isinstance(value, str | bool | int | float | torch.device | torch.dtype):
        return (type(value), value)
    return None


def copied(value: Any) -> Any:
    """The same tensors in lists and tuples of one's own, which a pipeline may add to."""
    if isinstance(value, list | tuple):
        return type(value)(copied(part) for part in value)
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """Those in lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors(part)]
    return []
