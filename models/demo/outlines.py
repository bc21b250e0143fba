"""The outlines of every shape, as parts to fill or to cut out; knows nothing of pictures.

Outlines live in the square -1..1, y downwards, and touch it on their longer sides: all things are
stencils of one colour, through whose eyes, doors and windows the background shows.
"""

import math
from collections.abc import Callable, Sequence

from models.demo.scenes import Point

Outline = list[Point]
Parts = list[tuple[bool, Outline]]  # in the order of drawing; true fills, false cuts out


def oval(x: float, y: float, wide: float, high: float | None = None, turns: float = 1.0) -> Outline:
    """An ellipse of half-axes `wide` and `high`; with half a turn, its upper half."""
    angles = [math.pi + math.tau * turns * step / 96 for step in range(97)]
    high = wide if high is None else high
    return [(x + wide * math.cos(a), y + high * math.sin(a)) for a in angles]


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def mirrored(outline: Outline) -> Outline:
    return [(-x, y) for x, y in outline]


def cut(solid: Sequence[Outline], holes: Sequence[Outline] = ()) -> Parts:
    return [(True, outline) for outline in solid] + [(False, outline) for outline in holes]


# --- geometric shapes -------------------------------------------------------------------------


def circle() -> Parts:
    return cut([oval(0, 0, 1)])


def ring() -> Parts:
    return cut([oval(0, 0, 1)], [oval(0, 0, 0.52)])


def square() -> Parts:
    return cut([box(-1, -1, 1, 1)])


def triangle() -> Parts:
    return cut([[(0, -0.9), (1, 0.85), (-1, 0.85)]])


def diamond() -> Parts:
    return cut([[(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]])


def cross() -> Parts:
    return cut([box(-0.34, -1, 0.34, 1), box(-1, -0.34, 1, 0.34)])


def star() -> Parts:
    points: Outline = []
    for step in range(10):
        radius, angle = (1.05 if step % 2 == 0 else 0.46), math.tau * step / 10
        points.append((radius * math.sin(angle), 0.1 - radius * math.cos(angle)))
    return cut([points])


def heart() -> Parts:
    points: Outline = []
    for step in range(96):
        a = math.tau * step / 96
        x = 16 * math.sin(a) ** 3
        y = 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        points.append((x / 16, (-y - 2.5) / 15.3))
    return cut([points])


def crescent() -> Parts:
    return cut([oval(0.13, 0, 1)], [oval(0.63, -0.15, 0.8)])


# --- things -----------------------------------------------------------------------------------


def cat() -> Parts:
    """A face with two tall ears and two eyes."""
    ear = [(-0.98, 0.35), (-0.9, -0.95), (-0.1, -0.2), (0, 0.35)]
    eyes = [oval(x, 0.22, 0.17, 0.2) for x in (-0.42, 0.42)]
    return cut([oval(0, 0.28, 1, 0.67), ear, mirrored(ear)], eyes)


def house() -> Parts:
    """A gable roof with eaves and a chimney, and a door."""
    roof = [(0, -1), (1, -0.05), (-1, -0.05)]
    return cut(
        [roof, box(-0.72, -0.1, 0.72, 1), box(0.42, -0.95, 0.7, -0.2)], [box(-0.24, 0.35, 0.24, 1)]
    )


def tree() -> Parts:
    """A conifer of two tiers on a trunk."""
    tiers = [[(0, -1), (0.58, -0.1), (-0.58, -0.1)], [(0, -0.55), (0.78, 0.6), (-0.78, 0.6)]]
    return cut([*tiers, box(-0.17, 0.5, 0.17, 1)])


def fish() -> Parts:
    """Swims to the left; a forked tail, one eye."""
    tail = [(0.3, 0), (1, -0.58), (0.78, 0), (1, 0.58)]
    return cut([oval(-0.28, 0, 0.72, 0.5), tail], [oval(-0.62, -0.1, 0.12)])


def car() -> Parts:
    """Two wheels below a body, a cabin with two windows on it."""
    cabin = [(-0.62, -0.02), (-0.4, -0.55), (0.36, -0.55), (0.64, -0.02)]
    panes = [
        [(-0.42, -0.06), (-0.28, -0.4), (-0.06, -0.4), (-0.06, -0.06)],
        [(0.08, -0.06), (0.08, -0.4), (0.26, -0.4), (0.43, -0.06)],
    ]
    wheels = [oval(x, 0.33, 0.24) for x in (-0.52, 0.52)]
    return cut([cabin, box(-1, -0.06, 1, 0.36), *wheels], panes)


def mushroom() -> Parts:
    """A domed cap with three spots on a stout stem."""
    spots = [oval(-0.48, -0.24, 0.16), oval(0.48, -0.24, 0.16), oval(0, -0.52, 0.18)]
    stem = [(-0.26, 0.05), (0.26, 0.05), (0.4, 0.95), (-0.4, 0.95)]
    return cut([oval(0, 0.1, 1, 1.05, turns=0.5), stem], spots)


# --- what stands in a landscape only ----------------------------------------------------------


def boat() -> Parts:
    """Two sails over a hull."""
    hull = [(-1, 0.45), (1, 0.45), (0.62, 0.95), (-0.62, 0.95)]
    return cut(
        [
            hull,
            [(-0.06, -0.95), (-0.06, 0.32), (-0.85, 0.32)],
            [(0.1, -0.6), (0.8, 0.32), (0.1, 0.32)],
        ]
    )


def balloon() -> Parts:
    """A hot-air balloon: the envelope, and a basket below it."""
    envelope = [(-0.7, 0), (0.7, 0), (0.22, 0.62), (-0.22, 0.62)]
    return cut([oval(0, -0.25, 0.75), envelope, box(-0.2, 0.72, 0.2, 1)])


OUTLINES: dict[str, Callable[[], Parts]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "diamond": diamond,
    "ring": ring,
    "cross": cross,
    "crescent": crescent,
    "cat": cat,
    "house": house,
    "tree": tree,
    "fish": fish,
    "car": car,
    "mushroom": mushroom,
    "boat": boat,
    "balloon": balloon,
}
