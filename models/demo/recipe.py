"""Every number of the training run, as frozen values; the curricula are tables of phases.

Steps are counted, never timed, so that the same script does the same work on any machine.
"""

from dataclasses import dataclass

from models.demo.captions import TERSE
from models.demo.scenes import FRAMES, SQUARE, Frame

Pool = tuple[str, Frame]  # a kind of scene in a frame

# Scenes whose latents are kept in memory: in the square frame, and in each of the others.
SCENES = {
    "geometric": (9000, 1800),
    "thing": (9000, 1800),
    "count": (2800, 1000),
    "pair": (4500, 1400),
    "land": (3000, 1200),
}
POOLS: dict[Pool, int] = {
    (kind, frame): other if frame != SQUARE else square
    for kind, (square, other) in SCENES.items()
    for frame in FRAMES
}


COARSE: dict[Pool, int] = {("geometric", SQUARE): SCENES["geometric"][0]}


@dataclass(frozen=True, slots=True)
class VaeRecipe:
    seed: int = 11
    batch: int = 8
    lr: float = 0.008  # of the matrices; AdamW takes a share of it
    warmup: int = 50
    edges: float = 0.5  # weight of the gradient term: keeps corners sharp
    noise: float = 0.04  # added to the latents, which have unit variance
    unit: float = 0.01  # weight of the pull towards that variance
    tinted: float = 0.15  # share of pictures in colours off the palette, for other people's inputs
    crop: int = 64  # pixels
    steps: int = 6200


# Shares of the kinds of scene, in the order of scenes.KINDS.
SHAPES_ONLY = (1.0, 0.0, 0.0, 0.0, 0.0)
SINGLES = (0.4, 0.6, 0.0, 0.0, 0.0)
EVERYTHING = (0.16, 0.26, 0.16, 0.20, 0.22)
ALL_ROUND = (0.15, 0.25, 0.14, 0.18, 0.28)  # more landscapes


@dataclass(frozen=True, slots=True)
class Phase:
    """So many steps of a batch size on a mix of scenes.

    `square` is the share of steps in square frames; the rest is half wide, half tall, at two thirds
    of the batch, which is as many pixels. `terse` is the share of captions of one word or two,
    `explicit` that of the longer ones which leave nothing out. A coarse phase shows mean colours of
    blocks instead of latents. Of the times, one in `even` is drawn evenly, the others mostly from
    the middle, where outlines are decided.
    """

    steps: int
    mix: tuple[float, ...]
    square: float
    explicit: float
    batch: int = 64
    coarse: bool = False
    even: int = 1
    terse: float = TERSE


@dataclass(frozen=True, slots=True)
class UnetRecipe:
    seed: int = 12
    lr: float = 0.012  # of the matrices; AdamW takes a share of it
    warmup: int = 100
    level: int = 6300  # the step at which the learning rate starts to fall
    ema: float = 0.999
    phases: tuple[Phase, ...] = (
        Phase(720, SHAPES_ONLY, 1.0, 0.8, coarse=True, even=4),
        Phase(600, SINGLES, 0.9, 0.7, even=4),
        Phase(3680, ALL_ROUND, 0.6, 0.5),
        Phase(1300, ALL_ROUND, 0.6, 0.5, terse=0.25),
        Phase(4200, ALL_ROUND, 0.6, 0.7, terse=0.15),
    )

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class PrimerRecipe:
    """Of both text encoders of `sketch-flux`, which read alone before they read for pictures."""

    seed: int = 13
    lr: float = 0.01
    warmup: int = 50
    level: int = 300
    ema: float = 0.0
    batch: int = 96
    mix: tuple[float, ...] = EVERYTHING
    explicit: float = 0.5
    steps: int = 900


# Without landscapes, but for the last.
PLAIN = (0.30, 0.36, 0.14, 0.20, 0.0)
OUTLINES = (0.50, 0.30, 0.08, 0.12, 0.0)
BOTH = (0.18, 0.27, 0.15, 0.40, 0.0)
CLOSING = (0.32, 0.36, 0.13, 0.19, 0.0)
WHOLE = (0.20, 0.26, 0.18, 0.16, 0.20)
TAUGHT = 2954


@dataclass(frozen=True, slots=True)
class FlowRecipe:
    """Of `sketch-flux`, which learns from the same latents, from a step on by what `sketch` makes
    of them, and then mostly at the shares of noise where outlines are decided."""

    seed: int = 14
    lr: float = 0.02
    warmup: int = 100
    level: int = 8600
    taught: int = TAUGHT  # the step from which `sketch` sets the targets ...
    clear: float = 0.3  # ... above this share of noise; below it sees no better than its sibling
    middle: float = 1.2  # mean and spread of the shares from then on, as logits
    width: float = 1.4
    ema: float = 0.999
    phases: tuple[Phase, ...] = (
        Phase(1200, SINGLES, 1.0, 0.7),
        Phase(TAUGHT - 1200, PLAIN, 0.6, 0.6),
        Phase(1324, OUTLINES, 0.7, 0.85),
        Phase(912, BOTH, 0.6, 0.7),
        Phase(2210, CLOSING, 0.6, 0.8),
        Phase(2800, WHOLE, 0.6, 0.7),
    )

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class EnlargerRecipe:
    """Of the network that makes pictures four times as wide and as high."""

    seed: int = 17
    width: int = 24  # channels
    depth: int = 8  # layers between the first and the last
    scenes: int = 4  # of a step
    cuts: int = 4  # of each of them
    cut: int = 48  # px, of the small picture
    noise: float = (
        0.12  # at the most, on latents of unit variance: pictures are never painted exactly
    )
    edges: float = 0.5  # weight of the gradient term
    lr: float = 0.004
    warmup: int = 50
    level: int = 800
    ema: float = 0.995
    steps: int = 3600
