"""A child process that opens uploaded images: a file in, upright 8-bit pixels or a reason out.

The only process that meets hostile image bytes (`reader` parses them), under limits of its own.
Run as `python -m server.images.decoder`: its stdin and stdout lead to the server, and it ends when
stdin does, so that it never outlives the server. Knows nothing of requests.
"""

import contextlib
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import BinaryIO, Literal, TypeAlias

import msgspec
import PIL.Image

# Pillow loads the last three on demand: in a request's time, and for WebP with 40 other formats.
from PIL import ImageFile, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin

from server.images.reader import Bounds, Format, OutOfBounds, Role, Unacceptable, read, too_many

MEMORY = 2**30  # bytes of address space; a WebP of 33 megapixels takes half of it
STRIP = 2**20  # pixels that are turned to bytes at once
GRACE = 1.0  # seconds past the deadline after which a child that nobody killed dies by itself
PLUGINS = (MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)

# -- What a parent and this child say: a 4-byte big-endian length, then MessagePack ---------------
# A file follows its Request raw and pixels follow their Decoded raw, for packing them would copy.


class Request(msgspec.Struct, frozen=True):
    """Open the `size` bytes that follow; answered by `Decoded` or `Refused`."""

    role: Role
    size: int
    bounds: Bounds
    seconds: float  # after which the parent kills


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Said once, when the child has confined itself."""


class Decoded(msgspec.Struct, frozen=True, tag=True):
    """An upright image; width × height × (3 for RGB, 1 for L) bytes follow."""

    format: Format  # of the file
    width: int
    height: int
    mode: Literal["RGB", "L"]
    flattened: bool  # some of it was transparent, and is on white now


class Refused(msgspec.Struct, frozen=True, tag=True):
    """No acceptable picture. `reason` is a public sentence, `detail` is for the log."""

    reason: str
    detail: str = ""
    too_large: bool = False


Answer: TypeAlias = Ready | Decoded | Refused


def frame(message: Request | Answer) -> bytes:
    """Encode a message with its length in front."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


# -- The process ----------------------------------------------------------------------------------


def answer(data: bytes, request: Request) -> tuple[Decoded | Refused, PIL.Image.Image | None]:
    """`read`, with every failure as a `Refused`."""
    try:
        got = read(data, request.role, request.bounds)
        mode = "RGB" if request.role == "image" else "L"
        size = got.image.width, got.image.height
        return Decoded(got.format, *size, mode, got.flattened), got.image
    except Unacceptable as error:
        return Refused(str(error), too_large=isinstance(error, OutOfBounds)), None
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        return Refused(too_many(request.bounds), _told(error), too_large=True), None
    except MemoryError as error:
        return Refused("The image takes too much memory to decode.", _told(error)), None
    except Exception as error:  # anything at all can come out of a parser that is fed garbage
        return Refused("The image is damaged and cannot be read.", _told(error)), None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def confine() -> None:
    """Give up what opening images does not need. Signals to end are for the server to act upon."""
    for ending in (signal.SIGINT, signal.SIGTERM):  # a service manager sends it to all of us
        signal.signal(ending, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
    PIL.Image.preinit()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until the source ends."""
    decoder = msgspec.msgpack.Decoder(Request)
    while length := int.from_bytes(source.read(4), "big"):
        _serve_one(decoder.decode(source.read(length)), source, sink)


def _serve_one(request: Request, source: BinaryIO, sink: BinaryIO) -> None:
    data = source.read(request.size)
    # The kernel keeps this deadline too, should the server be gone or the parser be stuck in C.
    signal.setitimer(signal.ITIMER_REAL, request.seconds + GRACE)
    head, picture = answer(data, request)
    sink.write(frame(head))
    for strip in _strips(picture) if picture else ():
        sink.write(strip)
    sink.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)


def _strips(picture: PIL.Image.Image) -> Iterator[bytes]:
    """The pixels by rows, in pieces, so that they are never in memory twice."""
    rows = max(1, STRIP // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        yield picture.crop((0, top, picture.width, bottom)).tobytes()


def main() -> None:
    """Run until stdin ends."""
    confine()
    sys.stdout.buffer.write(frame(Ready()))
    sys.stdout.buffer.flush()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server is gone
        serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
