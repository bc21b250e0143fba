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
    batch: int = 16
    lr: float = 2.5e-3
    warmup: int = 50
    edges: float = 0.5  # weight of the gradient term: keeps corners sharp
    kl: float = 1e-3
    pairs: float = 0.5
    tinted: float = 0.3  # share of pictures in colours off the palette, for other people's inputs
    phases: tuple[VaePhase, ...] = (VaePhase(2400, 64, True), VaePhase(400, 128, False))

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class Phase:
    """So many steps of a batch size, a share of them scenes of two things."""

    steps: int
    batch: int
    pairs: float


@dataclass(frozen=True, slots=True)
class UnetRecipe:
    seed: int = 12
    singles: int = 20_000  # scenes of one thing whose latents are kept in memory
    pairs: int = 8_000
    lr: float = 0.012  # of the matrices; AdamW takes a share of it
    warmup: int = 100
    level: int = 2700  # the step at which the learning rate starts to fall
    ema: float = 0.999
    phases: tuple[Phase, ...] = (Phase(3400, 32, 0.0), Phase(1900, 64, 0.15))

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)
