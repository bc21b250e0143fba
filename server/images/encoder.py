"""Raw pixels to PNG, JPEG or WebP bytes, with or without metadata. Pure and synchronous.

Knows nothing of where images come from or where pictures go; what the metadata says is decided by
whoever passes it in.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import PIL.Image
from PIL.PngImagePlugin import PngInfo

from models.contract import Image
from server.images import png
from server.images.reader import Format

# JPEG: no chroma subsampling, which would smear coloured edges. WebP: method 2 takes half the time
# of the usual 4 for 2 % more bytes.
OPTIONS: Mapping[Format, Mapping[str, Any]] = {
    "jpeg": {"subsampling": 0},
    "webp": {"method": 2},
}
QUALITY: Mapping[Format, int] = {"png": 100, "jpeg": 95, "webp": 90}  # PNG has none

DESCRIPTION, SOFTWARE, COMMENT = 0x010E, 0x0131, 0x9286  # EXIF tags
EXIF_IFD = 0x8769
# An EXIF block has to fit a JPEG segment of 64 KiB. Bytes per tag:
ROOM = {DESCRIPTION: 4_000, SOFTWARE: 200, COMMENT: 60_000}
MAX_KEY, MAX_VALUE, MAX_KEYS = 79, 32_768, 64  # characters; the first by the PNG specification


def encoded(
    image: Image, kind: Format, metadata: Mapping[str, str] | None, quality: int | None
) -> bytes:
    """Encode an image; `quality` is 1 … 100, or `None` for the format's default, and not for PNG.

    Nothing but pixels is written unless `metadata` is given. A PNG carries all of it as text. Every
    format carries EXIF: `Description` as ImageDescription, `Software` as Software, and as
    UserComment `parameters`, as galleries read it, or else the remaining keys line by line.
    """
    texts = None if metadata is None else cleaned(metadata)
    if kind == "png":
        return png.written(image, () if texts is None else _chunks(texts))
    options = {**OPTIONS[kind], "quality": QUALITY[kind] if quality is None else quality}
    if texts is not None:
        options["exif"] = _exif(texts)
    buffer = BytesIO()
    picture = PIL.Image.frombytes(image.mode, (image.width, image.height), image.pixels)
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def cleaned(metadata: Mapping[str, str]) -> dict[str, str]:
    """Without control characters and lone surrogates, capped; keys are printable Latin-1."""
    texts: dict[str, str] = {}
    for key, value in list(metadata.items())[:MAX_KEYS]:
        name = " ".join(_visible(key).encode("latin-1", "ignore").decode("latin-1").split())
        if name := name[:MAX_KEY].strip():
            texts[name] = _visible(value)[:MAX_VALUE]
    return texts


def _visible(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def _chunks(texts: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, value)  # tEXt if Latin-1 can say it, else iTXt
    for kind, data, *_ in info.chunks:
        yield kind, data
    if texts:  # a directory without entries is none
        yield b"eXIf", _exif(texts).tobytes().removeprefix(b"Exif\0\0")


def _exif(texts: Mapping[str, str]) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    for tag, key in ((DESCRIPTION, "Description"), (SOFTWARE, "Software")):
        if key in texts:  # as UTF-8, which readers expect though the tag is called ASCII
            exif[tag] = _cut(texts[key], "utf-8", ROOM[tag])
    others = (f"{k}: {v}" for k, v in texts.items() if k not in ("Description", "Software"))
    if comment := texts.get("parameters") or "\n".join(others):
        exif.get_ifd(EXIF_IFD)[COMMENT] = _comment(comment)
    return exif


def _comment(text: str) -> bytes:
    """A UserComment: eight bytes that name the character code, then the text (EXIF 2.32, 4.6.5)."""
    if text.isascii():
        return b"ASCII\0\0\0" + _cut(text, "ascii", ROOM[COMMENT])
    return b"UNICODE\0" + _cut(text, "utf-16-be", ROOM[COMMENT])


def _cut(text: str, encoding: str, limit: int) -> bytes:
    """Encode at most `limit` bytes of whole characters."""
    return text.encode(encoding)[:limit].decode(encoding, "ignore").encode(encoding)
