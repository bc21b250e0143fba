"""What is measured in one call on a GPU that is lent for minutes, and in which order.

A stage is done for all its models before the next begins, and what has targets comes first: a call
that is cut off still has a figure for each of them. All models of a plan fit on one GPU together
(an H200 has 141 GB).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.architectures import SMALL_SIDE


@dataclass(frozen=True, slots=True)
class Plan:
    """One call."""

    seconds: float  # no stage begins later; the last one may take half a minute more
    rounds: int
    turns: Sequence[tuple[str, str]]  # stages with a comma between, and models with a space


PLANS: Mapping[int, Plan] = {
    # About 400 s.
    1: Plan(
        seconds=370,
        rounds=2,
        turns=(
            ("picture,against bare,operations", "flux-dev sdxl sd15"),
            ("graphs", "sdxl sd15 flux-dev"),
            ("batches at 512 px", "sd15 sdxl flux-dev"),
            ("kernels", "flux-dev sdxl sd15"),
            ("tunings", "flux-dev sdxl"),
            ("compiled again", "flux-dev"),
            ("lossy", "flux-dev"),
            ("tunings", "sd15"),
        ),
    ),
    # About 250 s.
    2: Plan(
        seconds=220,
        rounds=2,
        turns=(
            ("picture,against bare,operations", "z-image-turbo flux2-klein-4b sd35-medium"),
            ("batches at 512 px", "sd15 z-image-turbo flux2-klein-4b"),
            ("batches at 1024 px", "sdxl z-image-turbo"),
            ("cancel,preview,encode", "sd15 sdxl"),
            ("picture,operations", "qwen-image"),
            ("served", "sd15 sdxl"),
        ),
    ),
}


def turns(plan: Plan, small: bool) -> list[tuple[str, str]]:
    """Each model and stage, in their order; scaled down, all batches are of one size."""
    return [
        (name, scaled(stage) if small else stage)
        for stages, names in plan.turns
        for stage in stages.split(",")
        for name in names.split()
    ]


def scaled(stage: str) -> str:
    """A stage as it is called where pictures are small."""
    return re.sub(r"at \d+ px", f"at {SMALL_SIDE} px", stage)
