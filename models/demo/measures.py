"""What a picture shows, measured on its pixels alone: colours, place, size and outline.

Arrays are (height, width, 3) of 0..255. Knows nothing of models; drawn originals score about 1.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.demo.drawing import DAYLIGHT, GROUNDS, LIGHTS, SKIES, dimmed, silhouette
from models.demo.scenes import (
    LIT_SIDE,
    PALETTE,
    PLACES,
    PROPS,
    SHAPES,
    SIDE,
    SIZES,
    SQUARE,
    Frame,
    Land,
    Scene,
    anchor,
)

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

COLORS = tuple(PALETTE)
GRID = 48  # side of the square on which outlines are compared
NEAR = 36.0  # levels of RGB; nearer to a colour than that is about that colour
LEAST = 60  # pixels; fewer than these of one colour are no object


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen: of the object "" and 0 where none was found; `fit` is its outline's IoU."""

    background: str
    color: str = ""
    place: str = ""
    size: str = ""
    shape: str = ""
    fit: float = 0.0


@dataclass(frozen=True, slots=True)
class Marks:
    """Which of the things asked for are in the picture."""

    background: bool
    color: bool
    place: bool
    size: bool
    shape: bool


def look(picture: Pixels) -> Sight:
    """What a picture of one thing on a plain background shows."""
    background, color, mask = apart(picture)
    if color == background or mask.sum() < LEAST:
        return Sight(COLORS[background])
    left, top, right, bottom = extent(mask)
    diameter = float(max(right - left, bottom - top))
    size = min(SIZES, key=lambda name: abs(SIZES[name] - diameter))
    frame = picture.shape[1], picture.shape[0]
    place = nearest_place((left + right) / 2, (top + bottom) / 2, diameter, frame)
    fits = {name: overlap(square_up(mask), template(name)) for name in SHAPES}
    shape = max(fits, key=lambda name: fits[name])
    return Sight(COLORS[background], COLORS[color], place, size, shape, fits[shape])


def apart(picture: Pixels) -> tuple[int, int, Mask]:
    """The background's colour, the most common other one, and the pixels that are rather that."""
    names = nearest_colors(picture)
    background = most_common(border(names))
    others = names[names != background]
    color = most_common(others) if others.size else background
    return background, color, closer_to(picture, color, background)


def mark(seen: Sight, asked: Scene) -> Marks:
    """Compares what was seen with the one thing that was asked for."""
    thing = asked.things[0]
    return Marks(
        background=seen.background == asked.background,
        color=seen.color == thing.color,
        place=seen.place == thing.place,
        size=seen.size == thing.size,
        shape=seen.shape == thing.shape,
    )


def share_of(picture: Pixels, color: str, mask: Mask) -> float:
    """Share of the pixels under the mask whose nearest palette colour is `color`, 0..1."""
    return float((nearest_colors(picture)[mask] == COLORS.index(color)).mean())


def most_common_color(picture: Pixels, besides: str) -> str:
    """The palette colour of most pixels that are not of the colour `besides`; "" without any."""
    names = nearest_colors(picture)
    others = names[names != COLORS.index(besides)]
    return COLORS[most_common(others)] if others.size >= LEAST else ""


def nearest_colors(picture: Pixels) -> NDArray[np.intp]:
    """The index in COLORS that each pixel is nearest to, (height, width)."""
    distances = [distance(picture, color) for color in COLORS]
    return np.argmin(np.stack(distances), axis=0)


def distance(picture: Pixels, color: str) -> NDArray[np.float32]:
    """Squared RGB distance of every pixel to a palette colour."""
    return off(picture, PALETTE[color])


def off(picture: Pixels, color: tuple[int, int, int]) -> NDArray[np.float32]:
    """Squared RGB distance of every pixel to a colour."""
    difference = picture.astype(np.float32) - np.asarray(color, dtype=np.float32)
    return np.square(difference).sum(axis=-1)


def closer_to(picture: Pixels, color: int, background: int) -> Mask:
    """The object: a smoothed edge belongs to whichever of the two colours it is nearer to."""
    return distance(picture, COLORS[color]) < distance(picture, COLORS[background])


def border(names: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.concatenate(
        (names[:2].ravel(), names[-2:].ravel(), names[:, :2].ravel(), names[:, -2:].ravel())
    )


def most_common(names: NDArray[np.intp]) -> int:
    return int(np.bincount(names.ravel(), minlength=len(COLORS)).argmax())


def extent(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the mask; rows and columns of a stray pixel do not count."""
    columns, rows = (np.flatnonzero(mask.sum(axis=axis) >= 2) for axis in (0, 1))
    if not columns.size or not rows.size:
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def nearest_place(x: float, y: float, diameter: float, frame: Frame = SQUARE) -> str:
    """The named place whose centre, for a thing of this diameter, is nearest to a point."""

    def away(place: str) -> float:
        there = anchor(place, min(diameter, max(SIZES.values())), frame)
        return (x - there[0]) ** 2 + (y - there[1]) ** 2

    return min(PLACES, key=away)


def square_up(mask: Mask) -> Mask:
    """The mask's content centred in a square of GRID cells, its proportions kept."""
    left, top, right, bottom = extent(mask)
    side = max(right - left, bottom - top)
    cells = (np.arange(GRID) + 0.5) / GRID * side - side / 2
    ys = np.floor(cells + (top + bottom) / 2).astype(int)
    xs = np.floor(cells + (left + right) / 2).astype(int)
    inside = ((ys >= top) & (ys < bottom))[:, None] & ((xs >= left) & (xs < right))[None, :]
    rows, columns = ys.clip(0, mask.shape[0] - 1), xs.clip(0, mask.shape[1] - 1)
    return mask[rows[:, None], columns[None, :]] & inside


@cache
def template(shape: str) -> Mask:
    return square_up(np.asarray(silhouette(shape)) > 127)


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def tally(picture: Pixels) -> tuple[str, str, int]:
    """The background, the colour of the things on it, and how many there are of them."""
    background, color, mask = apart(picture)
    return COLORS[background], COLORS[color], pieces(mask) if color != background else 0


def pieces(mask: Mask) -> int:
    """The number of connected parts of at least LEAST pixels.

    Every pixel takes the largest number among itself and its neighbours until nothing changes.
    """
    numbers = np.pad(np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0), 1)
    while True:
        around = [np.roll(numbers, step, axis) for axis in (0, 1) for step in (-1, 1)]
        grown = np.where(numbers > 0, np.max([numbers, *around], axis=0), 0)
        if (grown == numbers).all():
            return int((np.bincount(numbers.ravel())[1:] >= LEAST).sum())
        numbers = grown


def lights(picture: Pixels, land: Land) -> int:
    """How many suns, or moons, are up in a landscape in which nothing else is."""
    return pieces(like(picture, LIGHTS[land.time]))


def shape_in(picture: Pixels, land: Land, color: str) -> str:
    """Which of the things that may stand in a landscape is in it, in that colour and on the side
    where no light is; "" if none is."""
    middle = picture.shape[1] // 2
    side = picture[:, :middle] if LIT_SIDE[land.time] > 0 else picture[:, middle:]
    mask = like(side, PALETTE[color])
    if mask.sum() < LEAST:
        return ""
    fits = {name: overlap(square_up(mask), template(name)) for name in PROPS[land.ground]}
    return max(fits, key=lambda name: fits[name])


def like(picture: Pixels, color: tuple[int, int, int]) -> Mask:
    """The pixels that are about of a colour."""
    return off(picture, color) < NEAR**2


def view_of(picture: Pixels) -> tuple[str, str]:
    """The ground and the time of day of a landscape, from its lower and its upper edge."""
    top, bottom = (rows.reshape(-1, 3).mean(axis=0) for rows in (picture[1:5], picture[-9:-1]))
    time = min(SKIES, key=lambda name: away(top, SKIES[name][0]))
    lands = {
        ground: [dimmed(near, light) for light in DAYLIGHT.values()]
        for ground, (_, near) in GROUNDS.items()
    }
    ground = min(lands, key=lambda name: min(away(bottom, color) for color in lands[name]))
    return ground, time


def away(one: NDArray[np.float64], other: tuple[int, int, int]) -> float:
    return float(np.square(one - np.asarray(other)).sum())


def middle(share: float = 0.5) -> Mask:
    """A square in the middle of the native picture, `share` of its side."""
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    low = round(SIDE * (1 - share) / 2)
    mask[low : SIDE - low, low : SIDE - low] = True
    return mask
