"""What a model is examined in: each exam paints, measures the pixels and returns its scores.

Scenes come from grading seeds, which no model was trained on. Knows nothing of gates.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random

import numpy as np
from PIL import Image

from models.demo.captions import full_caption, plain_caption
from models.demo.drawing import draw
from models.demo.measures import (
    Marks,
    Pixels,
    lights,
    look,
    mark,
    middle,
    most_common_color,
    shape_in,
    share_of,
    tally,
    view_of,
)
from models.demo.painter import Painter
from models.demo.scenes import (
    HELD_OUT,
    KINDS,
    PALETTE,
    RELATIONS,
    SHAPES,
    SIDE,
    SQUARE,
    Frame,
    Scene,
    compose,
    landscape,
    pair,
    several,
    single,
)

MARKS = ("background", "color", "place", "size", "shape")
FILLED = 0.1  # least share of the mask that has to be in the asked colour
SHOWN = 0.03  # least share of a picture in a colour for it to be there
UNWANTED = ("red", "yellow", "green", "blue")


@dataclass(frozen=True, slots=True)
class Score:
    """A share, or a figure in the unit that its name gives, and the number of pictures behind."""

    value: float
    of: int


Scores = dict[str, Score]


def held_out(
    count: int, of: Callable[[Random, Frame], Scene] | None = None, frame: Frame = SQUARE
) -> list[Scene]:
    """Scenes of one thing, or whatever `of` composes."""
    compose = of or (lambda rng, frame: single(rng, SHAPES, frame))
    return [compose(Random(HELD_OUT + index), frame) for index in range(count)]


def share(values: Sequence[bool] | Sequence[float]) -> Score:
    return Score(float(np.mean(values)) if values else float("nan"), len(values))


def painted(
    painter: Painter,
    scenes: Sequence[Scene],
    say: Callable[[Scene], str] = full_caption,
    guidance: float | None = None,
) -> list[Pixels]:
    """A picture of each scene; all are of one frame."""
    prompts = [say(scene) for scene in scenes]
    return painter.paint(prompts, range(len(scenes)), guidance, scenes[0].frame)


def marked(pictures: Sequence[Pixels], scenes: Sequence[Scene]) -> list[Marks]:
    return [mark(look(one), scene) for one, scene in zip(pictures, scenes, strict=True)]


def totals(marks: Sequence[Marks], prefix: str = "") -> Scores:
    """The share of every mark, and of those that are right in all."""
    rows = [asdict(row) for row in marks]
    scores = {f"{prefix}{name}": share([row[name] for row in rows]) for name in MARKS}
    return scores | {f"{prefix}all five": share([all(row.values()) for row in rows])}


def adherence(painter: Painter, scenes: Sequence[Scene]) -> Scores:
    """Shares of pictures that show what their full caption asks for, and of each shape."""
    pictures = painted(painter, scenes)
    marks = marked(pictures, scenes)
    scores = totals(marks) | {"outline IoU": share([look(one).fit for one in pictures])}
    for shape in SHAPES:
        right = [
            row.shape
            for row, scene in zip(marks, scenes, strict=True)
            if scene.things[0].shape == shape
        ]
        scores[f"shape: {shape}"] = share(right)
    return scores


def short_prompts(painter: Painter, scenes: Sequence[Scene]) -> Scores:
    """The same for prompts that name neither size nor place."""
    scores = totals(marked(painted(painter, scenes, plain_caption), scenes), "short: ")
    return {name: scores[name] for name in ("short: background", "short: color", "short: shape")}


def in_frame(painter: Painter, name: str, frame: Frame, count: int) -> Scores:
    """The five marks for pictures of another form."""
    scenes = held_out(count, frame=frame)
    return totals(marked(painted(painter, scenes), scenes), f"{name}: ")


def pairs(painter: Painter, count: int, frame: Frame = SQUARE) -> Scores:
    """Share of pictures of two things with both colours on their own sides."""
    scenes = held_out(count, pair, frame)
    right = [both_sides(*both) for both in zip(painted(painter, scenes), scenes, strict=True)]
    return {"pairs: colors": share(right)}


def both_sides(picture: Pixels, scene: Scene) -> bool:
    dx, dy = RELATIONS[scene.relation or ""]
    upright = picture if dx else picture.transpose(1, 0, 2)
    middle = upright.shape[1] // 2
    halves = [upright[:, :middle], upright[:, middle:]]
    ordered = halves if dx + dy < 0 else halves[::-1]
    seen = [most_common_color(half, besides=scene.background) for half in ordered]
    return seen == [thing.color for thing in scene.things]


def counts(painter: Painter, count: int) -> Scores:
    """Share of pictures with the asked number of things, and with their colours right as well."""
    scenes = held_out(count, several)
    seen = [tally(picture) for picture in painted(painter, scenes)]
    asked = [(one.background, one.things[0].color, len(one.things)) for one in scenes]
    number = [one[2] == other[2] for one, other in zip(seen, asked, strict=True)]
    return {
        "counts: number": share(number),
        "counts: number and colors": share(
            [one == other for one, other in zip(seen, asked, strict=True)]
        ),
    }


def lands(painter: Painter, count: int) -> Scores:
    """Share of landscapes of the asked ground, at the asked time, with a light or none as asked,
    and with the asked thing's colour and outline."""
    scenes = held_out(count, landscape)
    views = [
        (picture, scene, scene.land)
        for picture, scene in zip(painted(painter, scenes), scenes, strict=True)
        if scene.land is not None
    ]
    seen = [(view_of(picture), (land.ground, land.time)) for picture, _, land in views]
    with_thing = [view for view in views if view[1].things]
    without = [view for view in views if not view[1].things]
    return {
        "lands: ground": share([found[0] == asked[0] for found, asked in seen]),
        "lands: time": share([found[1] == asked[1] for found, asked in seen]),
        "lands: light": share(
            [lights(picture, land) == land.light for picture, _, land in without]
        ),
        "lands: color of the thing": share(
            [shows_thing(picture, scene) for picture, scene, _ in with_thing]
        ),
        "lands: shape of the thing": share(
            [
                shape_in(picture, land, scene.things[0].color) == scene.things[0].shape
                for picture, scene, land in with_thing
            ]
        ),
    }


def shows_thing(picture: Pixels, scene: Scene) -> bool:
    """Whether its colour covers about as much as in the drawn original: nearer to that than to the
    same land without the thing, and no more than three times as much."""
    everywhere = np.ones(picture.shape[:2], dtype=np.bool_)
    seen, drawn, without = (
        share_of(np.asarray(one), scene.things[0].color, everywhere)
        for one in (picture, draw(scene), draw(replace(scene, things=())))
    )
    return (drawn + without) / 2 <= seen <= 3 * drawn


def inpainting(painter: Painter, count: int) -> Scores:
    """Share of plain pictures that get the asked colour, and shape, inside a mask in the middle."""
    mask, colors, shapes = middle(), [], []
    for index, scene in enumerate(held_out(count)):
        plain = Image.new("RGB", (SIDE, SIDE), PALETTE[scene.background])
        picture = painter.fill(plain, mask, plain_caption(scene), index)
        colors.append(share_of(picture, scene.things[0].color, mask) >= FILLED)
        shapes.append(mark(look(picture), scene).shape)
    return {"inpaint: color": share(colors), "inpaint: shape": share(shapes)}


def negatives(painter: Painter, count: int) -> Scores:
    """How often "a large circle" shows a colour, how often with that colour as negative prompt,
    and the share by which it falls."""
    before: list[bool] = []
    after: list[bool] = []
    each = count // len(UNWANTED)
    for number, color in enumerate(UNWANTED):
        seeds = range(number * each, (number + 1) * each)
        prompts = ["a large circle"] * each
        before += [shows(one, color) for one in painter.paint(prompts, seeds)]
        after += [shows(one, color) for one in painter.paint(prompts, seeds, negative=color)]
    first, second = share(before), share(after)
    return {
        "negative: before": first,
        "negative: after": second,
        "negative: fall": Score(1 - second.value / max(first.value, 1e-9), first.of),
    }


def shows(picture: Pixels, color: str) -> bool:
    return share_of(picture, color, np.ones(picture.shape[:2], dtype=np.bool_)) >= SHOWN


def guidance_gain(painter: Painter, scenes: Sequence[Scene]) -> Scores:
    """Shapes at guidance 1 and at guidance 3, and what the step gains; for prompts that name no
    size and no place, since those that name all are followed at guidance 1 already."""
    none, some = (
        totals(marked(painted(painter, scenes, plain_caption, g), scenes))["shape"]
        for g in (1.0, 3.0)
    )
    return {
        "shape at guidance 1": none,
        "shape at guidance 3": some,
        "gain of guidance: shape": Score(some.value - none.value, len(scenes)),
    }


def ceiling(painter: Painter, count: int) -> Scores:
    """What the autoencoder alone allows: drawn originals after a round trip through it."""
    scenes = held_out(count)
    returned = [painter.round_trip(draw(scene)) for scene in scenes]
    scores = totals(marked(returned, scenes), "drawn, round trip: ")
    return {
        "drawn, round trip: shape": scores["drawn, round trip: shape"],
        "drawn, round trip: all five": scores["drawn, round trip: all five"],
        "VAE, dB": sharpness(painter, count),
    }


def sharpness(painter: Painter, count: int) -> Score:
    """Peak signal to noise of the round trip, from the mean squared error over all kinds."""
    errors: list[float] = []
    for index in range(count):
        picture = draw(compose(KINDS[index % len(KINDS)], Random(HELD_OUT + index)))
        difference = np.asarray(picture, dtype=np.float64) - painter.round_trip(picture)
        errors.append(float(np.square(difference).mean()))
    return Score(10 * float(np.log10(255**2 / np.mean(errors))), count)
