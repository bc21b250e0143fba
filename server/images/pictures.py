"""Pictures: encoded images, how raw pixels become one and how an uploaded one becomes raw pixels.

Encoding runs in threads, decoding in child processes (`decoder`); the event loop does neither.
Knows nothing of requests, of models, or of what a picture shows.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import PIL.Image

from models.contract import Image
from server.errors import (
    BadImage,
    BadMask,
    BadRequest,
    ImageTooLarge,
    InternalError,
    ShuttingDown,
)
from server.images.decode_child import Child, ChildDied, Opened
from server.images.decoder import Refused, Request
from server.images.encoder import encoded
from server.images.reader import Bounds, Format, Role

RECYCLE = 500  # requests, after which a child makes room for a fresh one
START_SECONDS = 30.0  # for a child to be up; 0.2 s on an idle machine
FLATTENED = "transparency was put on white"  # what clients are told of it
GOODBYE = "The server is shutting down."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """The bytes of an image file, and what is in them. Width and height are in px."""

    data: bytes
    format: Format
    width: int
    height: int

    @property
    def mime(self) -> str:
        """The media type, as in `Content-Type`."""
        return f"image/{self.format}"


async def encode(
    image: Image,
    kind: Format,
    *,
    metadata: Mapping[str, str] | None = None,
    quality: int | None = None,
) -> Picture:
    """Encode in a thread: PNG losslessly, JPEG 4:4:4 at 95, WebP lossily at 90 unless told else.

    Args:
        metadata: what to embed (see `encoder.encoded`); nothing at all if `None`.
        quality: 1 … 100, for JPEG and WebP.
    """
    data = await asyncio.to_thread(encoded, image, kind, metadata, quality)
    return Picture(data, kind, image.width, image.height)


# -- Pixels to pixels; pure, for threads ----------------------------------------------------------


def resized(image: Image, width: int, height: int) -> Image:
    """Scale to `width` × `height` px: RGB by Lanczos, a mask so that it covers all it covered.

    A pixel of a scaled mask is 255 if any pixel ≥ 128 of the given one lies under it, even in part,
    and else 0.
    """
    if (width, height) == (image.width, image.height):
        return image
    if image.mode == "L":
        wanted = _pixels(image)[..., 0] >= 128
        for axis, target in enumerate((height, width)):
            wanted = _any_under(wanted, axis, target)
        return Image(width, height, "L", np.where(wanted, np.uint8(255), np.uint8(0)).tobytes())
    picture = PIL.Image.frombytes("RGB", (image.width, image.height), image.pixels)
    scaled = picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
    return Image(width, height, "RGB", scaled.tobytes())


def _any_under(wanted: npt.NDArray[np.bool_], axis: int, target: int) -> npt.NDArray[np.bool_]:
    """Scale one axis to `target`; true where anything is in the span under a new pixel."""
    source = wanted.shape[axis]
    spans = np.empty(2 * target, np.intp)
    spans[0::2] = np.arange(target) * source // target
    spans[1::2] = -(-np.arange(1, target + 1) * source // target)
    # reduceat takes starts only, each below the length: one more false makes the last end a start.
    padding = [(0, int(axis == 0)), (0, int(axis == 1))]
    reduced = np.logical_or.reduceat(np.pad(wanted, padding), spans, axis=axis)
    return reduced[0::2] if axis == 0 else reduced[:, 0::2]


def cropped(image: Image, aspect: float) -> Image:
    """The largest part around the centre whose width is `aspect` times its height, to a pixel."""
    width = min(image.width, max(1, round(image.height * aspect)))
    height = min(image.height, max(1, round(image.width / aspect)))
    if (width, height) == (image.width, image.height):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = _pixels(image)[top : top + height, left : left + width]
    return Image(width, height, image.mode, pixels.tobytes())


def _pixels(image: Image) -> npt.NDArray[np.uint8]:
    """A view of the pixels: height × width × channels."""
    return np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, -1)


# -- Uploaded files to pixels ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What an uploaded image may be and may cost."""

    max_pixels: int = 33_177_600  # 7680 × 4320
    max_side: int = 8192  # px
    seconds: float = 5.0  # wall clock, per image
    children: int = 2  # images opened at once; each may take up to 1 GiB


class _Unreadable(Exception):
    """Why an image was refused, in the words of the log."""


class Decoders:
    """A pool of child processes that open uploaded images.

    A child that dies, or takes longer than it may, costs its request and is replaced.

    Raises:
        InternalError: on entering, when no child can be started here at all.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._closed = False
        self._children: set[Child] = set()
        self._idle: asyncio.Queue[Child] = asyncio.Queue()
        self._endings: set[asyncio.Future[None]] = set()

    async def image(self, data: bytes, *, param: str) -> Image:
        """As `open`, the image alone."""
        return (await self.open(data, param=param)).image

    async def open(self, data: bytes, *, param: str) -> Opened:
        """Open a file as upright RGB, sRGB, transparency on white.

        Raises:
            BadImage: it is no acceptable picture, or cannot be opened within the limits;
                ImageTooLarge if it has too many pixels.
            InternalError: no child can be started. ShuttingDown: the pool was left.
        """
        return await self._open("image", data, BadImage, param)

    async def mask(self, data: bytes, *, param: str, alpha: bool = False) -> Image:
        """Open a file as an upright mask: L, 255 = edit, 0 = keep.

        Transparent means edit if any pixel is not opaque, else white does; 128 and more is white.
        With `alpha` only transparency counts, and a file without an alpha channel is refused.

        Raises:
            BadMask: as for `image`, and so are InternalError and ShuttingDown.
        """
        return (await self._open("alpha" if alpha else "mask", data, BadMask, param)).image

    async def _open(self, role: Role, data: bytes, refusal: type[BadRequest], param: str) -> Opened:
        limits = self._limits
        bounds = Bounds(limits.max_pixels, limits.max_side)
        try:
            answer = await self._ask(Request(role, len(data), bounds, limits.seconds), data)
        except (ChildDied, TimeoutError) as error:
            log.warning("a decode child was lost over %d bytes: %r", len(data), error)
            reason = "The image takes too long or too much memory to open."
            raise refusal(reason, param=param) from error
        if isinstance(answer, Refused):
            if answer.too_large and refusal is BadImage:
                refusal = ImageTooLarge
            raise refusal(answer.reason, param=param) from _Unreadable(answer.detail)
        return answer

    async def _ask(self, request: Request, data: bytes) -> Opened | Refused:
        child = await self._idle.get()
        usable = False
        try:
            if self._closed:
                raise ShuttingDown(GOODBYE)
            if child.gone:  # while idle: no fault of this request
                self._retire(child)
                child = self._born()
            await _up(child)
            async with asyncio.timeout(request.seconds):
                answer = await child.ask(request, data)
            usable = child.asked < RECYCLE
            return answer
        except ChildDied as error:
            if self._closed:
                raise ShuttingDown(GOODBYE) from error
            raise
        finally:  # also on cancellation: what a busy child would still say is for nobody
            if not usable and not self._closed:
                self._retire(child)
                child = self._born()
            self._idle.put_nowait(child)

    def _born(self) -> Child:
        child = Child()
        self._children.add(child)
        return child

    def _retire(self, child: Child) -> None:
        self._children.discard(child)
        ending = child.end()
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def __aenter__(self) -> Self:
        for _ in range(self._limits.children):
            self._idle.put_nowait(self._born())
        try:
            for child in list(self._children):
                await _up(child)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._closed = True
        for child in list(self._children):
            self._retire(child)
        if self._endings:
            await asyncio.wait(self._endings)


async def _up(child: Child) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            await child.started()
    except (ChildDied, OSError, TimeoutError) as error:
        raise InternalError("Images cannot be opened at the moment.") from error
