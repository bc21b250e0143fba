"""The grammar of the demo model: scenes of flat shapes, their pictures and their captions.

Drawn with PIL alone and with `Random.random()` only, which gives the same numbers on every Python.
Knows nothing of torch, of training or of how a picture is graded.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from PIL import Image, ImageDraw

SIDE = 128  # pixels: the native size of the model
OVERSAMPLE = 3
HELD_OUT = 1_000_000_000  # training seeds lie below, grading seeds from here on

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 44),
    "orange": (248, 138, 26),
    "yellow": (252, 218, 48),
    "green": (44, 158, 72),
    "teal": (58, 196, 196),
    "blue": (42, 84, 214),
    "purple": (128, 52, 172),
    "pink": (250, 146, 192),
    "white": (250, 250, 250),
    "black": (22, 22, 26),
}
SIZES: dict[str, float] = {"small": 40.0, "medium": 60.0, "large": 84.0}
PAIR_DIAMETER = 46.0
MARGIN = 6.0  # pixels that stay free between an object and the edge of the picture
PLACES: dict[str, tuple[int, int]] = {
    "in the center": (0, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "in the top left": (-1, -1),
    "in the top right": (1, -1),
    "in the bottom left": (-1, 1),
    "in the bottom right": (1, 1),
}
RELATIONS: dict[str, tuple[int, int]] = {
    "to the left of": (-1, 0),
    "to the right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}

Point = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: what a caption says of it, and where it really lies (pixels)."""

    shape: str
    color: str
    size: str
    place: str
    x: float
    y: float
    diameter: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A plain background and one thing, or two things in a relation (the first to the second)."""

    background: str
    things: tuple[Thing, ...]
    relation: str | None = None


def pick(rng: Random, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of the options; `Random.choice` is not used because its numbers vary by version."""
    if weights is None:
        return options[int(rng.random() * len(options))]
    mark = rng.random() * sum(weights)
    for option, weight in zip(options, weights, strict=True):
        mark -= weight
        if mark < 0:
            return option
    return options[-1]


# --- drawing scenes from a seed ---------------------------------------------------------------


def single(rng: Random) -> Scene:
    """One thing, medium and centred more often than not, never of its background's colour."""
    background, color = two_colors(rng)
    size = pick(rng, tuple(SIZES), (1.0, 1.4, 1.0))
    place = pick(rng, tuple(PLACES), (4.0,) + (1.0,) * 8)
    return Scene(background, (put(rng, pick(rng, tuple(SHAPES)), color, size, place),))


def pair(rng: Random) -> Scene:
    """Two things of different shapes and of three different colours with the background."""
    background, first = two_colors(rng)
    second = pick(rng, [name for name in PALETTE if name not in (background, first)])
    shape = pick(rng, tuple(SHAPES))
    other = pick(rng, [name for name in SHAPES if name != shape])
    relation = pick(rng, tuple(RELATIONS))
    dx, dy = RELATIONS[relation]
    things = (beside(rng, shape, first, dx, dy), beside(rng, other, second, -dx, -dy))
    return Scene(background, things, relation)


def scene(seed: int, pairs: float = 0.0) -> Scene:
    """The scene of a seed; `pairs` is the share of scenes with two things, 0..1."""
    rng = Random(seed)
    return pair(rng) if rng.random() < pairs else single(rng)


def two_colors(rng: Random) -> tuple[str, str]:
    background = pick(rng, tuple(PALETTE))
    return background, pick(rng, [name for name in PALETTE if name != background])


def put(rng: Random, shape: str, color: str, size: str, place: str) -> Thing:
    """A thing at a named place, with a little jitter so that seeds differ."""
    diameter = SIZES[size] * jitter(rng, 1.0, 0.05)
    x, y = anchor(place, diameter)
    return Thing(shape, color, size, place, jitter(rng, x, 3.0), jitter(rng, y, 3.0), diameter)


def beside(rng: Random, shape: str, color: str, dx: int, dy: int) -> Thing:
    """A thing of a pair, half the picture away from the other one."""
    x, y = SIDE / 2 + dx * SIDE / 4, SIDE / 2 + dy * SIDE / 4
    diameter = PAIR_DIAMETER * jitter(rng, 1.0, 0.05)
    return Thing(shape, color, "medium", "", jitter(rng, x, 3.0), jitter(rng, y, 3.0), diameter)


def anchor(place: str, diameter: float) -> Point:
    """Where the centre of a thing of this diameter lies at a place, pixels."""
    reach = SIDE / 2 - MARGIN - diameter / 2
    dx, dy = PLACES[place]
    return SIDE / 2 + dx * reach, SIDE / 2 + dy * reach


def jitter(rng: Random, value: float, spread: float) -> float:
    return value + (2 * rng.random() - 1) * spread


# --- pictures ---------------------------------------------------------------------------------


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, SIDE x SIDE, edges smoothed by box reduction."""
    side = SIDE * OVERSAMPLE
    image = Image.new("RGB", (side, side), PALETTE[scene.background])
    for thing in scene.things:
        stencil = Image.new("1", (side, side))
        stamp(stencil, thing.shape, thing.x, thing.y, thing.diameter)
        image.paste(PALETTE[thing.color], (0, 0, side, side), stencil)
    return image.reduce(OVERSAMPLE)


def silhouette(shape: str, diameter: float = 84.0) -> Image.Image:
    """A shape alone in the middle, 8-bit: 255 inside, 0 outside."""
    side = SIDE * OVERSAMPLE
    stencil = Image.new("1", (side, side))
    stamp(stencil, shape, SIDE / 2, SIDE / 2, diameter)
    return stencil.convert("L").reduce(OVERSAMPLE)


def stamp(stencil: Image.Image, shape: str, x: float, y: float, diameter: float) -> None:
    """Fills outlines (of which later ones are holes) whose larger side is `diameter` pixels."""
    pen = ImageDraw.Draw(stencil)
    scale = diameter / 2 * OVERSAMPLE
    for fill, outline in zip((1, 0), SHAPES[shape](), strict=False):
        corners = [(x * OVERSAMPLE + u * scale, y * OVERSAMPLE + v * scale) for u, v in outline]
        pen.polygon(corners, fill=fill)


# Outlines live in the square -1..1, y downwards; a second outline is cut out of the first.


def round_outline(radius: float = 1.0, x: float = 0.0, y: float = 0.0) -> list[Point]:
    angles = [math.tau * step / 96 for step in range(96)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def circle() -> list[list[Point]]:
    return [round_outline()]


def ring() -> list[list[Point]]:
    return [round_outline(), round_outline(0.52)]


def square() -> list[list[Point]]:
    return [[(-1, -1), (1, -1), (1, 1), (-1, 1)]]


def triangle() -> list[list[Point]]:
    return [[(0, -0.9), (1, 0.85), (-1, 0.85)]]


def diamond() -> list[list[Point]]:
    return [[(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]]


def cross() -> list[list[Point]]:
    arm = 0.34
    quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    points: list[Point] = []
    for _ in range(4):
        points += quarter
        quarter = [(-v, u) for u, v in quarter]
    return [points]


def star() -> list[list[Point]]:
    points: list[Point] = []
    for step in range(10):
        radius, angle = (1.05 if step % 2 == 0 else 0.46), math.tau * step / 10
        points.append((radius * math.sin(angle), 0.1 - radius * math.cos(angle)))
    return [points]


def heart() -> list[list[Point]]:
    points: list[Point] = []
    for step in range(96):
        a = math.tau * step / 96
        x = 16 * math.sin(a) ** 3
        y = 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        points.append((x / 16, (-y - 2.5) / 15.3))
    return [points]


def crescent() -> list[list[Point]]:
    return [round_outline(1.0, 0.13), round_outline(0.8, 0.63, -0.15)]


SHAPES: dict[str, Callable[[], list[list[Point]]]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "diamond": diamond,
    "ring": ring,
    "cross": cross,
    "crescent": crescent,
}
