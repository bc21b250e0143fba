"""Steps that are predicted from earlier ones instead of being worked out: faster, and not the same.

Only for models that ask for it, and only for long jobs. What a canvas remembers lies in an object
of its own and goes when it goes. Blocks are looked at from outside: compiled ones stay compiled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from models.canvas import Easel, Unloadable
from models.contract import Job, ModelSpec
from models.merge import Forward, Way
from models.shell import denoiser_name

LEAST_STEPS = 20  # of a job; with fewer, each step changes too much
SETTLING = 3  # steps at the start that are never forecast

# Where a transformer keeps the blocks that it runs one after the other, in their order.
STACKS: Mapping[str, tuple[str, ...]] = {
    "FluxTransformer2DModel": ("transformer_blocks", "single_transformer_blocks"),
    "Flux2Transformer2DModel": ("transformer_blocks", "single_transformer_blocks"),
    "QwenImageTransformer2DModel": ("transformer_blocks",),
    "SD3Transformer2DModel": ("transformer_blocks",),
    "ZImageTransformer2DModel": ("layers",),
}


class Guess(Protocol):
    """What is remembered of one of the forwards that a canvas asks for in each of its steps."""

    def run(self, forward: Forward, way: Way) -> tuple[Any, bool]:
        """Its output, and whether that was predicted."""
        ...


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """How the long jobs of a model are cut short."""

    denoiser: Any
    key: str  # in the configuration; named in answers
    start: Callable[[], Guess]

    @classmethod
    def of(cls, pipe: Any, spec: ModelSpec) -> "Shortcuts | None":
        """What the model's table asks for; None if nothing.

        Raises:
            Unloadable: its denoiser cannot do that.
        """
        tuning, denoiser = spec.tuning, getattr(pipe, denoiser_name(pipe), None)
        if tuning.step_forecast > 1:
            return cls(denoiser, "step_forecast", lambda: Forecast(tuning.step_forecast))
        if not tuning.step_cache:
            return None
        if spec.offload == "all":  # which fetches the next block before it is known to be skipped
            raise Unloadable('step_cache: does not go with offload = "all"')
        blocks = Blocks(denoiser, tuning.step_cache)
        return cls(denoiser, "step_cache", lambda: FirstBlock(blocks))

    def canvas(self, job: Job, share: float, way: Way) -> "Shortcut | None":
        """The way of one canvas's own; None for a job that is painted in full.

        Args:
            share: of its steps that are taken, for an edit begins late.
        """
        if job.strict or int(job.steps * share) < LEAST_STEPS:
            return None
        return Shortcut(self, way)


@dataclass(slots=True)
class Shortcut:
    """The `Way` of one canvas: predicts what its model's shortcuts can, and counts it.

    Which forward of a step is which (guidance may take two) is told by their order: not all
    pipelines name them.
    """

    model: Shortcuts
    way: Way
    predicted: int = 0  # steps, in whole or in part
    _guesses: list[Guess] = field(default_factory=list[Guess])
    _asked: int = 0  # forwards of this step so far
    _touched: bool = False  # whether one of them was predicted

    def __call__(self, forward: Forward) -> Any:
        if self._asked == len(self._guesses):
            self._guesses.append(self.model.start())
        guess = self._guesses[self._asked]
        self._asked += 1
        output, predicted = guess.run(forward, self.way)
        self._touched |= predicted
        return output

    def end_step(self) -> None:
        """The canvas has taken a step."""
        self.predicted += self._touched
        self._asked, self._touched = 0, False

    def tell(self, easel: Easel, steps: int) -> None:
        """Label the picture."""
        if self.predicted:
            what = f"{self.predicted} of {steps} were predicted from others"
            easel.note(f"steps: {what} ({self.model.key})")


# -- First-block cache ----------------------------------------------------------------------------


class FirstBlock:
    """Runs the first block, and the others only if that did something else than last time.

    If not, the others are taken to do again what they did then. (ParaAttention, first-block cache.)
    """

    def __init__(self, blocks: "Blocks") -> None:
        self._blocks = blocks
        self.first: torch.Tensor | None = None  # what the first block added to the picture
        self.rest: torch.Tensor | None = None  # what the others did

    def run(self, forward: Forward, way: Way) -> tuple[Any, bool]:
        return self._blocks.run(forward, way, self)


class Blocks:
    """A transformer's blocks as the cache runs them: its own, each behind a gate.

    The gates are in their place only while a forward with a cache runs, which nothing else does at
    that time.

    Args:
        threshold: how much what the first block does may differ, relative to itself, on average.
    """

    def __init__(self, denoiser: Any, threshold: float) -> None:
        kind = type(denoiser).__name__
        if kind not in STACKS:
            raise Unloadable(f"step_cache: {kind} is no transformer that it is made for")
        self._denoiser = denoiser
        self._threshold = threshold
        self._own = {name: getattr(denoiser, name) for name in STACKS[kind]}
        blocks = [block for stack in self._own.values() for block in stack]
        if len(blocks) < 2:
            raise Unloadable("step_cache: a single block leaves nothing to skip")
        self._gated = {
            name: torch.nn.ModuleList(Gate(self, block) for block in stack)
            for name, stack in self._own.items()
        }
        self._head, self._tail = blocks[0], blocks[-1]
        self._known: FirstBlock | None = None
        self._skipping = False
        self._began = self._change = torch.empty(0)

    def run(self, forward: Forward, way: Way, known: FirstBlock) -> tuple[Any, bool]:
        """A forward of the denoiser; whether all blocks but the first were skipped."""
        self._known, self._skipping = known, False
        self._hang(self._gated)
        try:  # its bare forward: were it compiled as a whole, the gates would be compiled as well
            output = way(replace(forward, function=self._denoiser.forward))
            return output, self._skipping
        finally:
            self._hang(self._own)
            self._known = None
            self._began = self._change = torch.empty(0)

    def _hang(self, stacks: Mapping[str, torch.nn.ModuleList]) -> None:
        for name, stack in stacks.items():
            setattr(self._denoiser, name, stack)

    def pass_through(self, block: Any, *args: Any, **kwargs: Any) -> Any:
        """What a block makes of the picture and the text, or would have made of them."""
        picture = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        if self._skipping:
            return among(kwargs.get("encoder_hidden_states"), picture)
        output = block(*args, **kwargs)
        if block is self._head:
            return self._judged(output, picture)
        if block is self._tail:
            self._learn(output)
        return output

    def _judged(self, output: Any, before: torch.Tensor) -> Any:
        """The first block's output, with what the others would add if they are to be skipped."""
        assert self._known is not None
        after = picture_of(output)
        first, rest, change = self._known.first, self._known.rest, after - before
        near = self._threshold
        if first is not None and rest is not None and distance(change, first) <= near:
            self._skipping = True
            return among(output[0] if isinstance(output, tuple) else None, after + rest)
        self._began, self._change = after, change
        return output

    def _learn(self, output: Any) -> None:
        """Remember what all blocks did. Some transformers put the text ahead of the picture."""
        assert self._known is not None
        picture = picture_of(output)[:, -self._began.shape[1] :]
        self._known.first, self._known.rest = self._change, picture - self._began


class Gate(torch.nn.Module):
    """Stands where a block stood."""

    def __init__(self, blocks: Blocks, block: torch.nn.Module) -> None:
        super().__init__()
        self.block = block
        self._blocks = blocks

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._blocks.pass_through(self.block, *args, **kwargs)


def picture_of(output: Any) -> torch.Tensor:
    """The picture's tokens in what a block gives: (text, picture), or the picture alone."""
    return output[1] if isinstance(output, tuple) else output


def among(text: Any, picture: Any) -> Any:
    """What a block gives, put together again."""
    return picture if text is None else (text, picture)


def distance(change: torch.Tensor, known: torch.Tensor) -> float:
    """How much two changes differ on average, relative to the known one."""
    return float((change - known).abs().mean() / known.abs().mean())


# -- Forecast -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Forecast:
    """Runs one step in `every`; in between, the output goes on as it changed between the last two.

    A Taylor series of first order over the network's output. (TaylorSeer, arXiv 2503.06923; its
    light form, which looks at nothing inside the network.)
    """

    every: int
    _count: int = 0
    _at: int = 0  # the last step that was run
    _last: Any = None
    _slope: Any = None  # per step

    def run(self, forward: Forward, way: Way) -> tuple[Any, bool]:
        at, self._count = self._count, self._count + 1
        if at >= SETTLING and (at - SETTLING + 1) % self.every:
            ahead = at - self._at
            return both(self._last, self._slope, lambda a, b: a + ahead * b), True
        output = way(forward)
        if at:
            gone = at - self._at
            self._slope = both(output, self._last, lambda a, b: (a - b) / gone)
        self._at, self._last = at, output
        return output, False


def both(a: Any, b: Any, work: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Any:
    """Tensors of two outputs, in tuples, lists and diffusers' own outputs, brought together."""
    if isinstance(a, torch.Tensor):
        return work(a, b)
    if isinstance(a, Mapping):
        return type(a)(**{name: both(part, b[name], work) for name, part in a.items()})
    return type(a)(both(left, right, work) for left, right in zip(a, b, strict=True))
