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
    """So many steps of a batch size, a share of them scenes of two things.

    `tilt` below 1 shows more noise and less picture: first what is where, later its outline.
    `explicit` is the share of captions that leave nothing out, `focus` the weight of a thing's
    cells over background: both make up for things being small and often not mentioned.
    """

    steps: int
    batch: int
    pairs: float
    tilt: float
    explicit: float
    focus: float


@dataclass(frozen=True, slots=True)
class UnetRecipe:
    seed: int = 12
    singles: int = 20_000  # scenes of one thing whose latents are kept in memory
    pairs: int = 8_000
    lr: float = 0.012  # of the matrices; AdamW takes a share of it
    warmup: int = 100
    level: int = 1600  # the step at which the learning rate starts to fall
    ema: float = 0.998
    phases: tuple[Phase, ...] = (
        Phase(800, 32, 0.0, 0.6, 0.8, 4.0),
        Phase(1000, 32, 0.0, 0.8, 0.6, 3.0),
        Phase(1400, 32, 0.0, 0.9, 0.5, 2.0),
    )

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)
