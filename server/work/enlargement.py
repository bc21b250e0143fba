"""Enlarging an uploaded image without painting: what is asked, and what comes of it.

Decodes in a child, scales and encodes in threads. Knows nothing of HTTP, of models or of workers.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass

from models.contract import Image
from server.errors import ImageTooLarge
from server.images.pictures import FLATTENED, Decoders, Picture, encode, resized
from server.notices import Notice
from server.sizes import Size

log = logging.getLogger(__name__)

PARAM = "images[0]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An image file to be delivered `scale` times as wide and high, as PNG of at most `max_pixels`
    px."""

    dialect: str
    image: bytes
    scale: float  # 1 and more
    max_pixels: int
    ignored: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Enlarged:
    """The picture, and what was not as asked."""

    picture: Picture
    notices: tuple[Notice, ...]


async def enlarge(wish: Wish, decoders: Decoders, output_pixels: int) -> Enlarged:
    """What is wished for, of at most `output_pixels` px.

    Raises:
        Refusal: the file is no acceptable image, or larger than it may become.
    """
    began = time.monotonic()
    opened = await decoders.open(wish.image, param=PARAM)
    size = Size(opened.image.width, opened.image.height)
    target, notices = planned(size, wish.scale, min(wish.max_pixels, output_pixels))
    picture = await encode(await asyncio.to_thread(enlarged, opened.image, target), "png")
    if opened.flattened:
        notices = (*notices, Notice(PARAM, FLATTENED))
    took = time.monotonic() - began
    log.info("dialect=%s enlarged %s to %s total=%.3f", wish.dialect, size, target, took)
    return Enlarged(picture, (*wish.ignored, *notices))


def planned(size: Size, scale: float, most: int) -> tuple[Size, tuple[Notice, ...]]:
    """The size that an image of `size` is delivered at: scaled, but to at most `most` px in all.

    Raises:
        ImageTooLarge: it has more than `most` px already.
    """
    if size.area > most:
        limit = f"an enlarged one has at most {most} pixels"
        raise ImageTooLarge(f"{PARAM}: the image is {size}; {limit}", param=PARAM)
    used = min(scale, math.sqrt(most / size.area))
    target = Size(*(max(side, int(side * used + 1e-6)) for side in (size.width, size.height)))
    if used == scale:
        return target, ()
    message = f"asked for {scale:g}, used {used:.4g}: the picture has at most {most} pixels"
    return target, (Notice("scale", message),)


def enlarged(image: Image, size: Size) -> Image:
    """By Lanczos, which invents nothing; for threads."""
    return resized(image, size.width, size.height)
