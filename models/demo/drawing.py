"""The pictures of scenes, drawn with PIL alone at three times the size and reduced.

Knows nothing of captions, of torch or of training.
"""

import math

from PIL import Image, ImageDraw

from models.demo.outlines import OUTLINES
from models.demo.scenes import LIT_SIDE, PALETTE, SIDE, Frame, Land, Point, Scene

OVERSAMPLE = 3
Color = tuple[int, int, int]

# The sky's colour at the top and at the horizon; how much light falls on the ground.
SKIES: dict[str, tuple[Color, Color]] = {
    "by day": ((92, 168, 246), (196, 230, 252)),
    "at sunset": ((150, 62, 140), (255, 170, 82)),
    "at night": ((10, 12, 44), (42, 54, 120)),
}
DAYLIGHT = {"by day": 1.0, "at sunset": 0.72, "at night": 0.36}
LIGHTS: dict[str, Color] = {
    "by day": (255, 226, 64),
    "at sunset": (255, 92, 56),
    "at night": (242, 240, 214),
}
GROUNDS: dict[str, tuple[Color, Color]] = {  # far and near
    "hills": ((126, 196, 96), (62, 148, 66)),
    "mountains": ((140, 146, 172), (92, 98, 128)),
    "sea": ((52, 132, 206), (28, 96, 176)),
}
HORIZON = 0.6  # share of the frame's height above the ground


def draw(scene: Scene, times: int = 1) -> Image.Image:
    """The picture of a scene: RGB, of so many times the frame's size, its edges smoothed."""
    fine = OVERSAMPLE * times  # pixels drawn for one of the frame's
    width, height = (side * fine for side in scene.frame)
    if scene.land is None:
        image = Image.new("RGB", (width, height), PALETTE[scene.background])
    else:
        image = lie_of(scene.land, (width, height), fine)
    for thing in scene.things:
        stencil = Image.new("1", (width, height))
        stamp(stencil, thing.shape, thing.x, thing.y, thing.diameter, fine)
        image.paste(PALETTE[thing.color], (0, 0, width, height), stencil)
    return image.reduce(OVERSAMPLE)


def silhouette(shape: str, diameter: float = 84.0) -> Image.Image:
    """A shape alone in the middle, 8-bit: 255 inside, 0 outside."""
    side = SIDE * OVERSAMPLE
    stencil = Image.new("1", (side, side))
    stamp(stencil, shape, SIDE / 2, SIDE / 2, diameter)
    return stencil.convert("L").reduce(OVERSAMPLE)


def stamp(
    stencil: Image.Image, shape: str, x: float, y: float, diameter: float, fine: int = OVERSAMPLE
) -> None:
    """Fills and cuts the parts of a shape whose larger side is `diameter` of the frame's pixels,
    each of which is `fine` of the stencil's."""
    pen = ImageDraw.Draw(stencil)
    scale = diameter / 2 * fine
    for solid, outline in OUTLINES[shape]():
        corners = [(x * fine + u * scale, y * fine + v * scale) for u, v in outline]
        pen.polygon(corners, fill=int(solid))


def lie_of(land: Land, size: Frame, fine: int) -> Image.Image:
    """The land with its sky, `size` pixels, of which `fine` are one of the frame's."""
    image = sky(land.time, size)
    pen = ImageDraw.Draw(image)
    width, height = size
    if land.light:
        shine(pen, land, size, 13 * fine)
    light = DAYLIGHT[land.time]
    for number, color in enumerate(GROUNDS[land.ground]):
        line = [(x * width, y * height) for x, y in ridge(land, number)]
        pen.polygon([(0, height), *line, (width, height)], fill=dimmed(color, light))
    return image


def sky(time: str, size: Frame) -> Image.Image:
    """From the top's colour to that of the horizon."""
    top, low = SKIES[time]
    column = Image.new("RGB", (1, 64))
    for row in range(64):
        share = min(1.0, row / 63 / HORIZON)
        column.putpixel((0, row), mixed(top, low, share))
    return column.resize(size, Image.Resampling.BILINEAR)


def shine(pen: ImageDraw.ImageDraw, land: Land, size: Frame, radius: int) -> None:
    """The sun or the moon; at sunset it is low."""
    x = size[0] * (0.5 + 0.22 * LIT_SIDE[land.time])
    y = size[1] * ((0.44 if land.time == "at sunset" else 0.2) + 0.04 * land.form[0])
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=LIGHTS[land.time])


def ridge(land: Land, number: int) -> list[Point]:
    """The upper edge of the far (0) or near (1) ground, from left to right, shares of the frame."""
    level = HORIZON + 0.18 * number
    first, second = land.form[1 + 2 * number : 3 + 2 * number]
    if land.ground == "sea":
        return [(0.0, level), (1.0, level)]
    if land.ground == "hills":
        return [
            (x / 48, level - 0.06 * math.sin(math.tau * (x / 48 * (0.8 + 0.5 * second) + first)))
            for x in range(49)
        ]
    return peaks(level + 0.08, 0.2 + 0.3 * first, 0.24 - 0.06 * number + 0.06 * second)


def peaks(foot: float, first: float, high: float) -> list[Point]:
    """Three summits, the first of them at the share `first` of the width."""
    return [
        (-0.1, foot),
        (first - 0.12, foot - 0.7 * high),
        (first + 0.04, foot - 0.3 * high),
        (first + 0.22, foot - high * 1.2),
        (first + 0.42, foot - 0.2 * high),
        (first + 0.56, foot - 0.75 * high),
        (1.1, foot),
    ]


def mixed(one: Color, other: Color, share: float) -> Color:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def dimmed(color: Color, light: float) -> Color:
    """A colour under less light, with a tinge of night."""
    return mixed((14, 18, 48), color, light)
