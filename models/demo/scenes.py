"""The grammar of the demo model: what a scene may hold, and scenes composed from a seed.

Composed with `Random.random()` only, which gives the same numbers on every Python. Knows nothing
of how a scene is drawn or described, of torch, of training or of how a picture is graded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

HELD_OUT = 1_000_000_000  # training seeds lie below, grading seeds from here on

Frame = tuple[int, int]  # width and height, pixels
SIDE = 128
SQUARE: Frame = (SIDE, SIDE)  # the native size of the model
WIDE: Frame = (192, 128)
TALL: Frame = (128, 192)
FRAMES = (SQUARE, WIDE, TALL)

GEOMETRIC = (
    *("circle", "square", "triangle", "star", "heart"),
    *("diamond", "ring", "cross", "crescent"),
)
THINGS = ("cat", "house", "tree", "fish", "car", "mushroom")
SHAPES = (*GEOMETRIC, *THINGS)
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
ONE_OF_SEVERAL = 46.0  # pixels: the diameter of each of two or three things
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
COUNTS = {2: "two", 3: "three"}
LANDS = ("hills", "mountains", "sea")
TIMES = ("by day", "at sunset", "at night")
PROPS: dict[str, tuple[str, ...]] = {  # what may stand in a land
    "hills": ("house", "tree", "balloon"),
    "mountains": ("house", "tree", "balloon"),
    "sea": ("boat", "balloon"),
}
LIT_SIDE = {"by day": -1, "at sunset": 1, "at night": -1}  # where the light stands, -1 is left
KINDS = ("geometric", "thing", "count", "pair", "land")

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
class Land:
    """The ground of a landscape, its time of day, whether the sun or moon is up, and its outline.

    `form` holds five numbers 0..1 that the drawing turns into slopes and the height of the light.
    """

    ground: str
    time: str
    light: bool
    form: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing, two or three alike, or two in a relation (the first to the second), on a plain
    background; or a land with or without one thing in it, where `background` is empty."""

    background: str
    things: tuple[Thing, ...]
    relation: str | None = None
    frame: Frame = SQUARE
    land: Land | None = None


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


def compose(kind: str, rng: Random, frame: Frame = SQUARE) -> Scene:
    """A scene of one of KINDS."""
    if kind == "geometric":
        return single(rng, GEOMETRIC, frame)
    if kind == "thing":
        return single(rng, THINGS, frame)
    return {"count": several, "pair": pair, "land": landscape}[kind](rng, frame)


def single(rng: Random, shapes: Sequence[str] = SHAPES, frame: Frame = SQUARE) -> Scene:
    """One thing, medium and centred more often than not, never of its background's colour."""
    background, color = two_colors(rng)
    size = pick(rng, tuple(SIZES), (1.0, 1.4, 1.0))
    place = pick(rng, tuple(PLACES), (4.0,) + (1.0,) * 8)
    diameter = SIZES[size] * jitter(rng, 1.0, 0.05)
    where = anchor(place, diameter, frame)
    thing = at(rng, where, pick(rng, shapes), color, diameter, size, place)
    return Scene(background, (thing,), frame=frame)


def pair(rng: Random, frame: Frame = SQUARE) -> Scene:
    """Two things of different shapes and of three different colours with the background."""
    background, first = two_colors(rng)
    second = pick(rng, [name for name in PALETTE if name not in (background, first)])
    shape = pick(rng, SHAPES)
    other = pick(rng, [name for name in SHAPES if name != shape])
    relation = pick(rng, tuple(RELATIONS))
    dx, dy = RELATIONS[relation]
    things = (
        at(rng, spot(frame, dx / 4, dy / 4), shape, first, one_diameter(rng)),
        at(rng, spot(frame, -dx / 4, -dy / 4), other, second, one_diameter(rng)),
    )
    return Scene(background, things, relation, frame)


def several(rng: Random, frame: Frame = SQUARE) -> Scene:
    """Two or three things alike: in a row or column, or three in a square frame as a triangle."""
    background, color = two_colors(rng)
    shape, count, upright = pick(rng, SHAPES), pick(rng, tuple(COUNTS)), rng.random() < 0.5
    places = arrangement(count, frame, upright=upright)
    diameter = one_diameter(rng)
    things = tuple(at(rng, spot(frame, *place), shape, color, diameter) for place in places)
    return Scene(background, things, frame=frame)


def arrangement(count: int, frame: Frame, *, upright: bool) -> list[Point]:
    """Where so many things stand, as shares of the frame from its middle."""
    if frame == SQUARE and count == 3:
        return [(0, -0.23), (-0.24, 0.23), (0.24, 0.23)]
    steps = [(index - (count - 1) / 2) / count for index in range(count)]
    stands = upright if frame == SQUARE else frame == TALL
    return [(0, step) if stands else (step, 0) for step in steps]


def landscape(rng: Random, frame: Frame = SQUARE) -> Scene:
    """A land at a time of day; half of them have a thing in them.

    Where light and thing stand follows from the time. Left to chance, and told by no word, both
    were painted on either side at once.
    """
    ground, time = pick(rng, LANDS), pick(rng, TIMES)
    land = Land(ground, time, rng.random() < 0.7, tuple(rng.random() for _ in range(5)))
    if rng.random() < 0.5:
        return Scene("", (), frame=frame, land=land)
    shape = pick(rng, PROPS[ground])
    color = pick(rng, ("red", "orange", "yellow", "purple", "pink", "white"))
    x = -0.22 * LIT_SIDE[time]  # the light is on the other side
    y = -0.2 if shape == "balloon" else 0.16
    thing = at(rng, spot(frame, x, y), shape, color, one_diameter(rng))
    return Scene("", (thing,), frame=frame, land=land)


def scene(seed: int) -> Scene:
    """The scene of a seed: any kind, any frame."""
    rng = Random(seed)
    kind = pick(rng, KINDS, (2.5, 3.0, 1.5, 2.0, 2.5))
    return compose(kind, rng, pick(rng, FRAMES, (2, 1, 1)))


def two_colors(rng: Random) -> tuple[str, str]:
    background = pick(rng, tuple(PALETTE))
    return background, pick(rng, [name for name in PALETTE if name != background])


def at(
    rng: Random,
    where: Point,
    shape: str,
    color: str,
    diameter: float,
    size: str = "medium",
    place: str = "",
) -> Thing:
    """A thing near a point, with a little jitter so that seeds differ."""
    x, y = (jitter(rng, middle, 3.0) for middle in where)
    return Thing(shape, color, size, place, x, y, diameter)


def one_diameter(rng: Random) -> float:
    return ONE_OF_SEVERAL * jitter(rng, 1.0, 0.05)


def spot(frame: Frame, x: float, y: float) -> Point:
    """The point so many widths and heights away from the middle of the frame."""
    return frame[0] * (0.5 + x), frame[1] * (0.5 + y)


def anchor(place: str, diameter: float, frame: Frame = SQUARE) -> Point:
    """Where the centre of a thing of this diameter lies at a place, pixels."""
    x, y = (
        side / 2 + way * (side / 2 - MARGIN - diameter / 2)
        for side, way in zip(frame, PLACES[place], strict=True)
    )
    return x, y


def jitter(rng: Random, value: float, spread: float) -> float:
    return value + (2 * rng.random() - 1) * spread
