"""What is made of an uploaded image without painting: a larger one, by Lanczos; cut-outs, in time.

Decodes in a child, scales and encodes in threads. Knows nothing of HTTP, of models or of workers.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.contract import Image
from server.errors import ImageTooLarge, Unavailable
from server.images.pictures import FLATTENED, Decoders, Opened, Picture, encode, resized
from server.jobs.recorder import Entry, Recorder, Telling
from server.notices import Notice
from server.sizes import Size

log = logging.getLogger(__name__)

PARAM = "images[0]"
LANCZOS = "lanczos"  # the model of what no model enlarged


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An image file to be delivered `scale` times as wide and high, as PNG of at most `max_pixels`
    px."""

    dialect: str
    image: bytes
    scale: float  # 1 and more
    max_pixels: int
    ignored: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """An image file to be delivered without its background."""

    dialect: str
    image: bytes


@dataclass(frozen=True, slots=True)
class Enlarged:
    """The picture, the id of its request, what was not as asked, and where the time went."""

    id: str
    picture: Picture
    notices: tuple[Notice, ...]
    seconds: Mapping[str, float]  # "paint", which is to scale; "encode", "total"


@dataclass(frozen=True, slots=True)
class Darkroom:
    """Where it is done; recorders are told of what becomes of each image.

    Attributes:
        output_pixels: of an enlarged picture, whatever its dialect allows.
        account: whose requests they are.
    """

    decoders: Decoders
    output_pixels: int
    recorders: Sequence[Recorder]
    account: str

    async def enlarge(self, wish: Wish) -> Enlarged:
        """What is wished for.

        Raises:
            Refusal: the file is no acceptable image, or larger than it may become.
        """
        began = time.monotonic()
        opened, size = await self._open(wish.image)
        target, notices = planned(size, wish.scale, min(wish.max_pixels, self.output_pixels))
        with self._telling(wish.dialect, "enlarge", LANCZOS, size, target) as telling:
            opened_at = time.monotonic()
            larger = await asyncio.to_thread(enlarged, opened.image, target)
            scaled = time.monotonic()
            picture = await encode(larger, "png")
            done = time.monotonic()
            telling.painted(0)
            spent = {"scale": scaled - opened_at, "encode": done - scaled, "total": done - began}
            telling.resulted((), spent)
        if opened.flattened:
            notices = (*notices, Notice(PARAM, FLATTENED))
        log.info("id=%s dialect=%s enlarged %s to %s total=%.3f",
                 telling.id, wish.dialect, size, target, spent["total"])  # fmt: skip
        return Enlarged(telling.id, picture, (*wish.ignored, *notices), spent)

    async def cut_out(self, wish: Cutting) -> Picture:
        """What an image shows, without its background. There is no model for it yet.

        Raises:
            Refusal: always.
        """
        _, size = await self._open(wish.image)
        with self._telling(wish.dialect, "cutout", "", size, size):
            raise Unavailable("background removal is not available here: no model is set up for it")

    async def _open(self, data: bytes) -> tuple[Opened, Size]:
        opened = await self.decoders.open(data, param=PARAM)
        return opened, Size(opened.image.width, opened.image.height)

    def _telling(self, dialect: str, task: str, model: str, size: Size, output: Size) -> Telling:
        entry = Entry(
            id=uuid.uuid4().hex,
            dialect=dialect,
            model=model,
            task=task,
            output=output,
            painted=size,
        )
        return Telling(self.recorders, entry, self.account)


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
