"""Every number of the training run, as frozen values; the curricula are tables of phases.

Steps are counted, never timed, so that the same script does the same work on any machine.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VaePhase:
    """So many steps on crops of this many pixels."""

    steps: int
    crop: int


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
    phases: tuple[VaePhase, ...] = (VaePhase(2600, 64), VaePhase(500, 128))

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)
