"""Every number of the training run, as frozen values; the curricula are tables of phases.

Steps are counted, never timed, so that the same script does the same work on any machine.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VaePhase:
    """So many steps on crops of this many pixels, of both halves or of the decoder alone."""

    steps: int
    crop: int
    encoder: bool


@dataclass(frozen=True, slots=True)
class VaeRecipe:
    seed: int = 11
    batch: int = 8
    lr: float = 2.5e-3
    warmup: int = 50
    edges: float = 0.5  # weight of the gradient term: keeps corners sharp
    kl: float = 1e-3
    pairs: float = 0.5
    tinted: float = 0.15  # share of pictures in colours off the palette, for other people's inputs
    phases: tuple[VaePhase, ...] = (VaePhase(4200, 64, True),)

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class Phase:
    """So many steps of a batch size, a share of them scenes of two things.

    `explicit` is the share of captions that leave nothing out.
    """

    steps: int
    batch: int
    pairs: float
    explicit: float


@dataclass(frozen=True, slots=True)
class UnetRecipe:
    seed: int = 12
    singles: int = 24_000  # scenes of one thing whose latents are kept in memory
    pairs: int = 8_000  # scenes of two things
    lr: float = 0.012  # of the matrices; AdamW takes a share of it
    warmup: int = 100
    level: int = 2800  # the step at which the learning rate starts to fall
    ema: float = 0.999
    phases: tuple[Phase, ...] = (
        Phase(1600, 64, 0.0, 0.5),
        Phase(3000, 64, 0.35, 0.5),
    )

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)
