"""What text encoders made of prompts, remembered: n images, another seed, the same negative prompt.

Exact: what is remembered is what would be computed again. Knows pipelines only by `encode_prompt`.
"""

import functools
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from inspect import Signature
from typing import Any, TypeAlias
from weakref import WeakMethod

import torch

from models.signatures import signature_of

METHODS = ("encode_prompt", "_encode_prompt")  # by whichever name a pipeline calls it
# These read both prompts in one call, and give in turns what came of them: prompt, negative, and
# once more, pooled. What came of the prompt they also take in its place.
IN_TURNS = {
    f"{name}{task}Pipeline"
    for name in ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3")
    for task in ("", "Img2Img", "Inpaint")
}
MOST = 64  # prompts
MOST_BYTES = 256 * 2**20  # of a model; a long prompt of a large one takes four megabytes

Kind: TypeAlias = tuple[type, str, Hashable]  # a pipeline's class, its method, what is worn


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
            if hasattr(own, name):
                signature = signature_of(type(own), name)
                # Weakly, for the pipeline is to end with its picture, and not with the collector.
                method = WeakMethod(getattr(own, name))
                setattr(own, name, self._remembering(method, signature, (type(own), name, dress)))

    def _remembering(
        self, reference: Callable[[], Any], signature: Signature, kind: Kind
    ) -> Callable[..., Any]:
        own, name, _ = kind
        in_turns = name == "encode_prompt" and own.__name__ in IN_TURNS

        @functools.wraps(getattr(own, name))
        def replacement(*args: Any, **kwargs: Any) -> Any:
            method = reference()
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            said = comparable(bound.arguments)
            if said is None:
                return method(*args, **kwargs)
            one = bound.arguments.get("num_images_per_prompt") == 1  # more would be repeated twice
            if in_turns and one and bound.arguments["do_classifier_free_guidance"]:
                return self._in_turns(kind, method, bound.arguments)
            return self._recalled((kind, said), lambda: method(*args, **kwargs))

        return replacement

    def _in_turns(
        self, kind: Kind, method: Callable[..., Any], said: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """The two prompts apart: most pictures have a new one and the same negative one."""
        first = {**said, **silent(said, "negative_prompt"), "do_classifier_free_guidance": False}
        found = self._recalled((kind, comparable(first)), lambda: method(**first))
        second = {**said, **silent(said, "prompt")}
        like = found[0].shape  # all that the other one depends on
        given = dict(zip(("prompt_embeds", "pooled_prompt_embeds"), found[::2], strict=False))
        negative: Sequence[Any] = self._recalled(
            (kind, comparable(second), like), lambda: method(**{**second, **given})[1::2]
        )
        return tuple(part for both in zip(found[::2], negative, strict=True) for part in both)

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


def silent(said: Mapping[str, Any], name: str) -> dict[str, None]:
    """No text in the argument of that name, nor in those with a number behind it."""
    return {each: None for each in said if re.fullmatch(rf"{name}(_\d)?", each)}


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
