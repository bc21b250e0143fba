"""Forwards that several canvases share: stand-ins that stop a canvas, and the rules for merging.

A stand-in takes a shared module's place in a pipeline and hands its calls to the studio instead;
the module itself is never patched. What may be concatenated is an explicit table per class, never
a guess: an argument that no rule names must be equal, and a tensor among those forbids merging.
"""

import hashlib
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.utils.weak import WeakIdKeyDictionary

from models import device
from models.canvas import Call
from models.lora import Dress, LoraSet
from models.signatures import signature_of


@dataclass(frozen=True, slots=True)
class MergeRule:
    """How the calls of one class of module are put together along dim 0."""

    rows: str  # the argument whose entries along dim 0 are the rows
    batch: frozenset[str]  # one entry per row, all of one shape: tensors, mappings of them, lists
    uneven: frozenset[str] = frozenset()  # lists of one tensor per row, each of its own shape
    times: frozenset[str] = frozenset()  # a scalar for all rows, or one entry per row
    alike: frozenset[str] = frozenset()  # one tensor that all rows share
    ignored: frozenset[str] = frozenset()  # without effect on the result


def rule(rows: str, **names: str) -> MergeRule:
    """A rule from names with spaces between."""
    return MergeRule(rows, **{field: frozenset(text.split()) for field, text in names.items()})


RULES: Mapping[str, MergeRule] = {
    "UNet2DConditionModel.forward": rule(
        "sample",
        batch="sample encoder_hidden_states timestep_cond added_cond_kwargs",
        times="timestep",
    ),
    "SD3Transformer2DModel.forward": rule(
        "hidden_states",
        batch="hidden_states encoder_hidden_states pooled_projections",
        times="timestep",
    ),
    "FluxTransformer2DModel.forward": rule(
        "hidden_states",
        batch="hidden_states encoder_hidden_states pooled_projections guidance",
        times="timestep",
        alike="img_ids txt_ids",
    ),
    "Flux2Transformer2DModel.forward": rule(
        "hidden_states",
        batch="hidden_states encoder_hidden_states guidance",
        times="timestep",
        alike="img_ids txt_ids",  # one entry per row, but only the first is looked at
    ),
    "QwenImageTransformer2DModel.forward": rule(
        "hidden_states",
        batch="hidden_states encoder_hidden_states encoder_hidden_states_mask guidance img_shapes",
        times="timestep",
    ),
    "ZImageTransformer2DModel.forward": rule("x", batch="", uneven="x cap_feats", times="t"),
    "AutoencoderKL.decode": rule("z", batch="z", ignored="generator"),
    "AutoencoderKLFlux2.decode": rule("z", batch="z", ignored="generator"),
    "AutoencoderKLQwenImage.decode": rule("z", batch="z"),
}


@dataclass(frozen=True, slots=True)
class Forward:
    """A call of a shared module, for one canvas or for several, as it is about to be run."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    rule: MergeRule | None = None  # how its arguments are made of rows; None where that is unknown
    worn: LoraSet = ()


Way: TypeAlias = Callable[[Forward], Any]  # how a forward is run on its device


def plainly(forward: Forward) -> Any:
    """The way that changes nothing."""
    return forward.function(**forward.arguments)


CONTENTS = WeakIdKeyDictionary()  # of tensors that were read, by identity


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

    def to(self, *args: Any, **kwargs: Any) -> "StandIn":
        """Nothing: where and in what precision shared weights are is no canvas's business."""
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._methods.get("forward", self._module)(*args, **kwargs)


def paused(
    module: Any,
    method: str,
    ask: Callable[[Call], Any],
    *,
    merging: bool = True,
    dress: Dress | None = None,
    way: Way = plainly,
) -> Callable[..., Any]:
    """A replacement of `module.method` that stops the canvas and has the studio run the call.

    Args:
        ask: the easel's `ask`.
        dress: the adapters that the call is to be run with.
        way: how it is to be run; canvases that may share the call have the same.
    """
    signature = signature_of(type(module), method)
    rule = RULES.get(f"{type(module).__name__}.{method}") if merging else None

    def replacement(*args: Any, **kwargs: Any) -> Any:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        if rule is None:
            call = SharedCall(module, method, None, dress, way, arguments)
            return ask(Call(method, None, run_shared, call))
        call = SharedCall(module, method, rule, dress, way, arguments | {"return_dict": False})
        return Output(ask(Call(method, call.key(), run_shared, call)))

    return replacement


class Output(tuple[Any, ...]):
    """A forward's outputs, also under the name by which some pipelines ask for the first."""

    @property
    def sample(self) -> Any:
        return self[0]


@dataclass(frozen=True, slots=True)
class SharedCall:
    """One canvas's call of a shared module, with its arguments by name."""

    module: Any
    method: str
    rule: MergeRule | None
    dress: Dress | None
    way: Way
    arguments: dict[str, Any]

    def key(self) -> Hashable:
        """Equal for calls that may be merged; None for one that may not be."""
        assert self.rule is not None
        skipped = self.rule.times | self.rule.ignored
        parts: list[Hashable] = [id(self.module), self.method, self.dress and self.dress.wanted]
        for name, value in sorted(self.arguments.items()):
            if name in skipped:
                continue
            part = self._part(self.rule, name, value)
            if part is None:
                return None
            parts.append((name, part))
        return tuple(parts)

    def _part(self, rule: MergeRule, name: str, value: Any) -> Hashable:
        if name in rule.batch:
            return form(value)
        if name in rule.uneven:
            return (value[0].dtype, value[0].device)
        return content(value) if name in rule.alike else constant(value)

    def rows(self) -> int:
        """How many rows of a merged forward are this call's."""
        assert self.rule is not None
        return len(self.arguments[self.rule.rows])

    def forward(self, arguments: dict[str, Any]) -> Forward:
        """What is really called: the module itself for its forward, so that hooks take part."""
        function = self.module if self.method == "forward" else getattr(self.module, self.method)
        return Forward(function, arguments, self.rule, self.dress.wanted if self.dress else ())


def form(value: Any) -> Hashable:
    """What must be equal of a batched argument: all but its number of rows."""
    if value is None:
        return "none"
    if isinstance(value, torch.Tensor) and value.ndim:
        return (tuple(value.shape[1:]), value.dtype, value.device)
    if isinstance(value, Mapping):
        forms = [(name, form(part)) for name, part in sorted(value.items())]
        return None if any(part is None for _, part in forms) else tuple(forms)
    if isinstance(value, list):
        return constant(value[0]) if all(entry == value[0] for entry in value) else None
    return None


def constant(value: Any) -> Hashable:
    """An argument that every merged call must pass alike; None where equality cannot be told."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return constant([part for item in sorted(value.items()) for part in item])
    if isinstance(value, list | tuple):
        parts = tuple(constant(part) for part in value)
        return None if None in parts else parts
    return (type(value), value) if isinstance(value, bool | int | float | str) else None


def content(tensor: torch.Tensor) -> Hashable:
    """What a tensor holds. Read only once: it may have to come from a GPU."""
    known = CONTENTS.get(tensor)
    if known is None:
        data = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        known = CONTENTS[tensor] = (tuple(tensor.shape), tensor.dtype, digest)
    return known


def run_shared(calls: Sequence[Call]) -> Sequence[Any]:
    """Run calls with equal keys as one forward; give each its own rows of the result.

    Raises:
        OutOfMemory, DeviceLost: see `device.named_faults`.
    """
    shared: list[SharedCall] = [call.arguments for call in calls]
    first = shared[0]
    with device.named_faults(), torch.no_grad():
        if first.dress is not None:
            first.dress.put_on()
        if len(shared) == 1:
            return [first.way(first.forward(first.arguments))]
        output = first.way(first.forward(merged(shared)))
        return split(output, [call.rows() for call in shared])


def merged(calls: Sequence[SharedCall]) -> dict[str, Any]:
    """The arguments of one forward that does the work of all the calls."""
    first = calls[0]
    assert first.rule is not None
    arguments = dict(first.arguments)
    for name in first.arguments:
        values = [call.arguments[name] for call in calls]
        if name in first.rule.batch | first.rule.uneven:
            arguments[name] = concatenated(values)
        elif name in first.rule.times:
            rows = [call.rows() for call in calls]
            arguments[name] = torch.cat(
                [per_row(value, n) for value, n in zip(values, rows, strict=True)]
            )
    return arguments


def concatenated(values: Sequence[Any]) -> Any:
    """Tensors, mappings of them, lists, or Nones, put together row by row."""
    if values[0] is None:
        return None
    if isinstance(values[0], Mapping):
        return {name: concatenated([value[name] for value in values]) for name in values[0]}
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    return torch.cat(list(values))


def per_row(time: Any, rows: int) -> torch.Tensor:
    """A timestep for each row."""
    vector = torch.as_tensor(time).reshape(-1)
    return vector.expand(rows) if len(vector) == 1 else vector


def split(output: tuple[Any, ...], rows: Sequence[int]) -> list[tuple[Any, ...]]:
    """A forward's output tuple, of tensors or of lists with an entry per row, cut per call."""
    return list(zip(*(cut(part, rows) for part in output), strict=True))


def cut(part: Any, rows: Sequence[int]) -> list[Any]:
    """One output, in pieces of so many rows."""
    if isinstance(part, torch.Tensor):
        return list(part.split(list(rows)))
    ends = list(itertools.accumulate(rows))
    return [part[end - count : end] for count, end in zip(rows, ends, strict=True)]
