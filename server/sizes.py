"""Sizes: from a wish ("1024 wide", "16:9", "2K") to what is painted and what is delivered.

Pure geometry in px. Knows nothing of configuration, of models beyond their `Sizing`, or of pixels.
"""

import math
import re
from dataclasses import dataclass
from typing import Self

from server.errors import BadRequest, ImageTooLarge, ImageTooSmall
from server.notices import Notice, shown

MIN_SIDE, MAX_SIDE = 64, 8192  # of a delivered picture, px
WORTH_ENLARGING = 1.5  # times the area that is painted
STEP = 8  # px; sizes that follow from an area are multiples of it
TIERS = {"1K": 1024, "2K": 2048, "4K": 4096}  # px; the side of the square with the tier's area

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.IGNORECASE | re.ASCII)
_RATIO = re.compile(r"(\d{1,5}):(\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Size:
    """A width and a height in px, both at least 1.

    Raises:
        ValueError: a side below 1.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"{self.width}x{self.height} is not a size")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "512x768".

        Raises:
            ValueError: anything else.
        """
        if not (found := _SIZE.fullmatch(text)):
            raise ValueError(f'{text!r:.40} is not a size; write it as "512x512"')
        return cls(int(found[1]), int(found[2]))

    @property
    def area(self) -> int:
        """Pixels."""
        return self.width * self.height

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLimits:
    """What a dialect says of the sizes of input images, in px; ends included."""

    min_side: int = 1
    min_pixels: int = 1
    max_pixels: int

    def check(self, size: Size, param: str) -> None:
        """Let an image of this size pass.

        Raises:
            ImageTooSmall, ImageTooLarge: with `param` named.
        """
        if min(_sides(size)) < self.min_side or size.area < self.min_pixels:
            least = f"at least {self.min_pixels} pixels in all and {self.min_side} a side"
            raise ImageTooSmall(f"{param}: the image is {size}; {least} are needed", param=param)
        if size.area > self.max_pixels:
            most = f"at most {self.max_pixels} pixels in all are accepted"
            raise ImageTooLarge(f"{param}: the image is {size}; {most}", param=param)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What sizes a model paints, and what it answers with when nothing is asked."""

    native: tuple[Size, ...]  # trained at these; at least one
    multiple: int  # both sides of a paint size are multiples of it, px
    max_pixels: int  # largest paint area; at least the largest native area
    max_aspect: float = MAX_SIDE / MIN_SIDE  # of the longer side to the shorter
    default: Size
    enlarger: bool = False  # whether a network makes its pictures larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request says about size; `base` is the size of the image to edit, if there is one."""

    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None  # "16:9"
    resolution: str | None = None  # a key of TIERS
    base: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePlan:
    """What is painted and what is delivered; the notices say where that is not what was asked."""

    paint: Size
    output: Size
    notices: tuple[Notice, ...]


def plan_sizes(sizing: Sizing, wish: Wish, output_pixels: int) -> SizePlan:
    """Settle both sizes of a request; `output_pixels` is the largest area that is delivered.

    Explicit sides beat the aspect ratio, which beats the base image, which beats the default.

    Raises:
        BadRequest: a malformed wish, or one outside the limits; `param` names the field.
    """
    ratio, tier = _ratio(wish.aspect_ratio), _tier(wish.resolution)
    if wish.width is not None or wish.height is not None:
        param = "height" if wish.width is None else "width"
        output = _explicit(sizing, wish, ratio)
    else:
        param = _param(wish, ratio, tier)
        like = wish.base or sizing.default
        area = tier * tier if tier else _possible(like.area, ratio or like.aspect, output_pixels)
        output = _from_area(like, ratio, area, tier)
    notices = _overruled(wish, ratio, tier, output)
    if wish.base and ratio is None and param in ("images", "resolution"):
        output, wanted = within_limits(output, output_pixels), output
        if output != wanted:
            notices.append(Notice(param, f"{wanted} is outside the limits; answered at {output}"))
    _check(output, param, output_pixels)
    if max(output.aspect, 1 / output.aspect) > sizing.max_aspect:
        raise BadRequest(
            f"{param} leads to {output}; this model paints no longer than "
            f"{shown(sizing.max_aspect)}:1",
            param=param,
        )
    paint = paint_size(sizing, output)
    if wish != Wish() and not _alike(paint, output, sizing.multiple):
        notices.append(Notice(param, f"painted at {paint} and {_scaled(sizing, paint, output)}"))
    return SizePlan(paint=paint, output=output, notices=tuple(notices))


def enlarges(sizing: Sizing, paint: Size, output: Size) -> bool:
    """Whether the model's network is to make a picture larger: where it is delivered much larger
    than it is painted."""
    return sizing.enlarger and output.area >= paint.area * WORTH_ENLARGING


def _scaled(sizing: Sizing, paint: Size, output: Size) -> str:
    """How a picture gets from one size to the other."""
    if enlarges(sizing, paint, output):
        return f"enlarged to {output} by a network"
    return f"{'enlarged' if output.area > paint.area else 'reduced'} to {output} (Lanczos)"


def _alike(paint: Size, output: Size, multiple: int) -> bool:
    """Whether they differ by no more than rounding to the multiple."""
    apart = (abs(a - b) for a, b in zip(_sides(paint), _sides(output), strict=True))
    return all(difference < multiple for difference in apart)


def paint_size(sizing: Sizing, output: Size) -> Size:
    """The size to paint for a picture of `output`: itself if the model can, else a native area.

    Both sides are positive multiples of `sizing.multiple`, and the area is at most
    `sizing.max_pixels`.
    """
    whole = Size(*(-(-side // sizing.multiple) * sizing.multiple for side in _sides(output)))
    smallest = min(native.area for native in sizing.native) / 2
    if smallest <= whole.area <= sizing.max_pixels:
        return whole

    def distance(native: Size) -> tuple[float, float]:
        nearness = abs(math.log(native.aspect / output.aspect))
        return nearness, abs(math.log(native.area / output.area))

    native = min(sizing.native, key=distance)
    return size_of_area(native.area, output.aspect, sizing.multiple, sizing.max_pixels)


def size_of_area(area: int, aspect: float, multiple: int, most: int) -> Size:
    """The size nearest to this aspect with about this area, in multiples, of at most `most` px.

    Of the (up to) four ways to round both sides, the one that keeps the aspect best; among equals
    the largest. `most` is at least `area` and at least the square of `multiple`.
    """
    height = math.sqrt(area / aspect)
    rounded = [
        Size(w, h) for w in _around(height * aspect, multiple) for h in _around(height, multiple)
    ]
    fitting = [size for size in rounded if size.area <= most]
    if fitting:
        return min(fitting, key=lambda size: (abs(math.log(size.aspect / aspect)), -size.area))
    # A side was lifted to `multiple`: the picture is a ribbon, and the other side has to give way.
    ribbon = most // multiple // multiple * multiple
    return Size(ribbon, multiple) if aspect > 1 else Size(multiple, ribbon)


def within_limits(size: Size, output_pixels: int) -> Size:
    """The size scaled to what can be delivered; its aspect gives way only for ribbons."""
    low, high = min(_sides(size)), max(_sides(size))
    if low < MIN_SIDE:
        scale = MIN_SIDE / low
    else:
        scale = min(1.0, MAX_SIDE / high, math.sqrt(output_pixels / size.area))
    scaled = (int(side * scale) for side in _sides(size))
    return Size(*(min(max(side, MIN_SIDE), MAX_SIDE) for side in scaled))


def _sides(size: Size) -> tuple[int, int]:
    return size.width, size.height


def _around(side: float, multiple: int) -> set[int]:
    """The multiples below and above, the smallest being `multiple` itself."""
    # An area's root is rarely exact: 1365.3333 is not to become 1368 for its last bit.
    exact = round(side / multiple, 6)
    return {max(1, math.floor(exact)) * multiple, max(1, math.ceil(exact)) * multiple}


def _ratio(text: str | None) -> float | None:
    if text is None:
        return None
    found = _RATIO.fullmatch(text)
    if not found or not int(found[1]) or not int(found[2]):
        raise BadRequest(
            f'aspect_ratio must be two positive whole numbers like "16:9", not {text!r:.40}',
            param="aspect_ratio",
        )
    return int(found[1]) / int(found[2])


def _tier(text: str | None) -> int | None:
    if text is None:
        return None
    side = TIERS.get(text)
    if side is None:
        allowed = ", ".join(TIERS)
        raise BadRequest(
            f"resolution must be one of {allowed}, not {text!r:.40}", param="resolution"
        )
    return side


def _param(wish: Wish, ratio: float | None, tier: int | None) -> str:
    """The field that a size without explicit sides comes from."""
    if tier is not None:
        return "resolution"
    if ratio is not None:
        return "aspect_ratio"
    return "width" if wish.base is None else "images"


def _explicit(sizing: Sizing, wish: Wish, ratio: float | None) -> Size:
    """The sides as asked; one that is missing follows from the other and an aspect."""
    for name, side in (("width", wish.width), ("height", wish.height)):
        if side is not None and not MIN_SIDE <= side <= MAX_SIDE:
            raise BadRequest(
                f"{name} must be from {MIN_SIDE} to {MAX_SIDE}, not {shown(side)}", param=name
            )
    aspect = ratio or (wish.base or sizing.native[0]).aspect
    if wish.width is None:
        assert wish.height is not None
        return Size(max(1, round(wish.height * aspect)), wish.height)
    if wish.height is None:
        return Size(wish.width, max(1, round(wish.width / aspect)))
    return Size(wish.width, wish.height)


def _possible(area: int, aspect: float, output_pixels: int) -> int:
    """The area nearest to this one that a deliverable picture of the aspect can have."""
    stretch = max(aspect, 1 / aspect)
    high = min(int(MAX_SIDE**2 / stretch), output_pixels)
    return max(min(area, high), math.ceil(MIN_SIDE**2 * stretch))


def _from_area(like: Size, ratio: float | None, area: int, tier: int | None) -> Size:
    """The size without explicit sides: `like` itself, or of this area if anything is asked."""
    if ratio is None and tier is None:
        return like
    return size_of_area(area, ratio or like.aspect, STEP, max(area, STEP * STEP))


def _overruled(wish: Wish, ratio: float | None, tier: int | None, output: Size) -> list[Notice]:
    """What does not act because explicit sides do."""
    notices: list[Notice] = []
    sides = [side for side in (wish.width, wish.height) if side is not None]
    if sides and tier is not None:
        notices.append(Notice("resolution", "not used: width or height was given"))
    if len(sides) == 2 and ratio is not None and abs(output.aspect / ratio - 1) > 0.01:
        notices.append(Notice("aspect_ratio", f"not used: width and height ask for {output}"))
    return notices


def _check(output: Size, param: str, output_pixels: int) -> None:
    sides = f"sides from {MIN_SIDE} to {MAX_SIDE} px and at most {output_pixels} px in all"
    fits = all(MIN_SIDE <= side <= MAX_SIDE for side in _sides(output))
    if not fits or output.area > output_pixels:
        raise BadRequest(f"{param} leads to {output}; pictures have {sides}", param=param)
