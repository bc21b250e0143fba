"""Forwards that several canvases share: stand-ins that stop a canvas, and the rules for merging.

A stand-in takes a shared module's place in a pipeline and hands its calls to the studio instead;
the module itself is never patched. What may be concatenated is an explicit table per class, never
a guess: an argument that no rule names must be equal, and a tensor among those forbids merging.
"""

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models import device
from models.canvas import Call


@dataclass(frozen=True, slots=True)
class MergeRule:
    """How the calls of one class of module are put together along dim 0."""

    rows: str  # the argument whose dim 0 counts the rows
    batch: frozenset[str]  # tensors, or mappings of tensors, with one entry per row
    times: frozenset[str] = frozenset()  # a scalar for all rows, or one entry per row
    ignored: frozenset[str] = frozenset()  # without effect on the result


UNET = MergeRule(
    rows="sample",
    batch=frozenset({"sample", "encoder_hidden_states", "timestep_cond", "added_cond_kwargs"}),
    times=frozenset({"timestep"}),
)
VAE_DECODE = MergeRule(rows="z", batch=frozenset({"z"}), ignored=frozenset({"generator"}))

RULES: Mapping[str, MergeRule] = {
    "UNet2DConditionModel.forward": UNET,
    "AutoencoderKL.decode": VAE_DECODE,
}


class StandIn:
    """Looks like `module` in every way, except that the `methods` given are ours."""

    def __init__(self, module: Any, **methods: Callable[..., Any]) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_methods", methods)

    @property
    def __class__(self) -> type:  # so that isinstance() sees the module's class
        return type(self._module)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("a stand-in keeps its module's class")

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._methods.get("forward", self._module)(*args, **kwargs)


def paused(
    module: Any, method: str, ask: Callable[[Call], Any], *, merging: bool = True
) -> Callable[..., Any]:
    """A replacement of `module.method` that stops the canvas and has the studio run the call.

    Args:
        ask: the easel's `ask`.
    """
    signature = inspect.signature(getattr(module, method))
    rule = RULES.get(f"{type(module).__name__}.{method}") if merging else None

    def replacement(*args: Any, **kwargs: Any) -> Any:
        call = SharedCall(module, method, rule, dict(signature.bind(*args, **kwargs).arguments))
        return ask(Call(method, call.key(), run_shared, call))

    return replacement


@dataclass(frozen=True, slots=True)
class SharedCall:
    """One canvas's call of a shared module, with its arguments by name."""

    module: Any
    method: str
    rule: MergeRule | None
    arguments: dict[str, Any]

    def key(self) -> Hashable:
        """Equal for calls that may be merged; None for one that may not be."""
        if self.rule is None or self.arguments.get("return_dict", True):
            return None
        skipped = self.rule.times | self.rule.ignored
        parts: list[Hashable] = [id(self.module), self.method]
        for name, value in sorted(self.arguments.items()):
            if name in skipped:
                continue
            part = form(value) if name in self.rule.batch else constant(value)
            if part is None:
                return None
            parts.append((name, part))
        return tuple(parts)

    def rows(self) -> int:
        """How many rows of a merged forward are this call's."""
        assert self.rule is not None
        return len(self.arguments[self.rule.rows])

    def function(self) -> Callable[..., Any]:
        """What is really called: the module itself for its forward, so that hooks take part."""
        return self.module if self.method == "forward" else getattr(self.module, self.method)


def form(value: Any) -> Hashable:
    """What must be equal of a batched argument: all but its number of rows."""
    if value is None:
        return "none"
    if isinstance(value, torch.Tensor) and value.ndim:
        return (tuple(value.shape[1:]), value.dtype, value.device)
    if isinstance(value, Mapping):
        forms = [(name, form(part)) for name, part in sorted(value.items())]
        return None if any(part is None for _, part in forms) else tuple(forms)
    return None


def constant(value: Any) -> Hashable:
    """An argument that every merged call must pass alike; None where equality cannot be told."""
    if value is None:
        return "none"
    return (type(value), value) if isinstance(value, bool | int | float | str) else None


def run_shared(calls: Sequence[Call]) -> Sequence[Any]:
    """Run calls with equal keys as one forward; give each its own rows of the result.

    Raises:
        OutOfMemory, DeviceLost: see `device.named_faults`.
    """
    shared: list[SharedCall] = [call.arguments for call in calls]
    with device.named_faults(), torch.no_grad():
        if len(shared) == 1:
            return [shared[0].function()(**shared[0].arguments)]
        return split(shared[0].function()(**merged(shared)), [call.rows() for call in shared])


def merged(calls: Sequence[SharedCall]) -> dict[str, Any]:
    """The arguments of one forward that does the work of all the calls."""
    first = calls[0]
    assert first.rule is not None
    arguments = dict(first.arguments)
    for name in first.arguments:
        values = [call.arguments[name] for call in calls]
        if name in first.rule.batch:
            arguments[name] = concatenated(values)
        elif name in first.rule.times:
            rows = [call.rows() for call in calls]
            arguments[name] = torch.cat(
                [per_row(value, n) for value, n in zip(values, rows, strict=True)]
            )
    return arguments


def concatenated(values: Sequence[Any]) -> Any:
    """Tensors, mappings of tensors, or Nones, put together row by row."""
    if values[0] is None:
        return None
    if isinstance(values[0], Mapping):
        return {name: concatenated([value[name] for value in values]) for name in values[0]}
    return torch.cat(list(values))


def per_row(time: Any, rows: int) -> torch.Tensor:
    """A timestep for each row."""
    vector = torch.as_tensor(time).reshape(-1)
    return vector.expand(rows) if len(vector) == 1 else vector


def split(output: tuple[torch.Tensor, ...], rows: Sequence[int]) -> list[tuple[torch.Tensor, ...]]:
    """A forward's output tuple, cut into one tuple per call."""
    return list(zip(*(part.split(list(rows)) for part in output), strict=True))
