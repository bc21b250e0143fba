"""Pictures inside JSON, both ways: base64 and data URLs.

Knows nothing of image formats or of HTTP. All work is cut into pieces of well under a millisecond,
because base64 of a large string in one call holds the interpreter, and so the event loop.
"""

import asyncio
import binascii
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from server.errors import BadImage, TooLarge
from server.images.pictures import Picture

TEXT_PIECE = 128 * 1024  # base64 characters, a multiple of 4
DATA_PIECE = 192 * 1024  # bytes, a multiple of 3: pieces can be joined without padding between
THREAD_FROM = 1024 * 1024  # characters; shorter texts are decoded faster than a thread is woken
SPACE = b" \t\r\n"


async def decode(text: str, limit: int, where: str) -> bytes:
    """The bytes of a base64 text or of a base64 data URL, decoded strictly; spaces are skipped.

    Args:
        text: what the client sent.
        limit: bytes that the result may have.
        where: the field's name, such as `images[0].b64`, for the message.

    Raises:
        BadImage: no base64, or empty.
        TooLarge: more than `limit` bytes; told from the length, before decoding.
    """
    start = _start_of_data(text, where)
    # Lines of 32 characters and more waste at most 1/16 on line ends; the exact count comes later.
    if (len(text) - start) * 3 // 4 > limit + limit // 16 + 64:
        raise _too_large(limit, where)
    if len(text) < THREAD_FROM:
        return _decoded(text, start, limit, where)
    return await asyncio.to_thread(_decoded, text, start, limit, where)


def _start_of_data(text: str, where: str) -> int:
    if text[:5].lower() != "data:":
        return 0
    comma = text.find(",", 0, 256)
    if comma < 0 or not text[:comma].lower().endswith(";base64"):
        raise BadImage(f'{where}: a data URL must start with "data:<type>;base64,"', param=where)
    return comma + 1


def _decoded(text: str, start: int, limit: int, where: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _decoded_pieces(text, start):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large(limit, where)
    except ValueError as broken:  # binascii.Error, or a character that is not ASCII
        raise BadImage(f"{where}: not valid base64", param=where) from broken
    if not size:
        raise BadImage(f"{where}: empty", param=where)
    return b"".join(pieces)


def _decoded_pieces(text: str, start: int) -> Iterator[bytes]:
    carry = b""
    padded = False
    for begin in range(start, len(text), TEXT_PIECE):
        raw = carry + text[begin : begin + TEXT_PIECE].encode("ascii").translate(None, SPACE)
        is_last = begin + TEXT_PIECE >= len(text)
        cut = len(raw) if is_last else len(raw) - len(raw) % 4
        raw, carry = raw[:cut], raw[cut:]
        # The strict mode below overlooks some of these.
        if len(raw) % 4 or (padded and raw) or b"=" in raw[:-2]:
            raise ValueError("padding is missing, too much, or in the middle")
        padded = padded or raw.endswith(b"=")
        yield binascii.a2b_base64(raw, strict_mode=True)


def _too_large(limit: int, where: str) -> TooLarge:
    return TooLarge(f"{where}: larger than {limit} bytes", param=where)


class Base64:
    """A picture that appears in a document as its bare base64."""

    __slots__ = ("picture",)

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @property
    def prefix(self) -> bytes:
        """What stands before the base64."""
        return b""


class DataUrl(Base64):
    """A picture that appears in a document as its data URL."""

    __slots__ = ()

    @property
    def prefix(self) -> bytes:
        """As a data URL begins."""
        return f"data:{self.picture.mime};base64,".encode()


Part: TypeAlias = bytes | Picture  # JSON text, or a picture to be written there in base64


def parts_of(document: Any) -> tuple[Part, ...]:
    """A JSON document as text and the pictures between, nothing of which is encoded yet."""
    # The mark cannot be guessed, so nothing that a client sent and we echo can contain it.
    mark = f"limner-{secrets.token_hex(16)}"
    pictures: list[Base64] = []
    text = msgspec.json.encode(document, enc_hook=_marking(pictures, mark))
    first, *rest = text.split(mark.encode())
    parts: list[Part] = [first]
    for inlined, following in zip(pictures, rest, strict=True):
        parts += (inlined.prefix, inlined.picture, following)
    return tuple(parts)


def _marking(pictures: list[Base64], mark: str) -> Callable[[Any], str]:
    def hook(value: Any) -> str:
        if not isinstance(value, Base64):
            raise TypeError(f"{type(value).__name__} does not belong into a document")
        pictures.append(value)
        return mark

    return hook


def length(parts: Iterable[Part]) -> int:
    """Bytes that `flow` will yield."""
    return sum(
        len(part) if isinstance(part, bytes) else (len(part.data) + 2) // 3 * 4 for part in parts
    )


def flow(parts: Iterable[Part]) -> Iterator[bytes]:
    """The bytes of the document, in pieces of at most 256 KiB where there are pictures."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        data = memoryview(part.data)
        for begin in range(0, len(data), DATA_PIECE):
            yield binascii.b2a_base64(data[begin : begin + DATA_PIECE], newline=False)
