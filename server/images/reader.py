"""The strict image reader: the bytes of a file in, upright 8-bit pixels or a public reason out.

PNG, JPEG and WebP only, one frame, the size checked before any pixel is loaded. Meant for a process
with limits (`decoder`): it hands hostile bytes to parsers in C. Knows nothing of requests.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, TypeAlias, cast

import PIL.Image
from PIL import ImageChops, ImageCms, ImageFile

# A mask may be painted in white or cut out; of "alpha" nothing but its transparency is looked at.
Role: TypeAlias = Literal["image", "mask", "alpha"]
Format: TypeAlias = Literal["png", "jpeg", "webp"]

ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
# What Pillow's parsers raise on broken EXIF; a picture is not refused for its metadata.
BROKEN = (SyntaxError, struct.error, ValueError, TypeError, LookupError, OSError, ArithmeticError)
# How far Pillow scaled the samples of a PNG with 2 or 4 bits of grey, but not its colour key.
KEY_SCALE = {"L;2": 85, "L;4": 17}

ACCEPTED = "only PNG, JPEG and WebP are accepted."
OTHERS = {  # what the first bytes of other formats look like, at which offset
    "GIF": (0, (b"GIF8",)),
    "BMP": (0, (b"BM",)),
    "TIFF": (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "AVIF": (4, (b"ftypavif", b"ftypavis")),
    "HEIC": (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")),
    "JPEG XL": (0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    "JPEG 2000": (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    "PDF": (0, (b"%PDF",)),
    "PSD": (0, (b"8BPS",)),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest picture that is read."""

    max_pixels: int
    max_side: int  # px


class Unacceptable(Exception):
    """Why a file is refused, as a public sentence."""


class OutOfBounds(Unacceptable):
    """It is larger than the bounds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An opened file. `flattened`: some of it was transparent, and is on white now."""

    format: Format
    image: PIL.Image.Image
    flattened: bool


def read(data: bytes, role: Role, bounds: Bounds) -> Reading:
    """Decode a file, upright: RGB on white in sRGB for an image, else L (255 = edit, 0 = keep).

    Raises:
        Unacceptable: with a public reason.
        Exception: whatever Pillow raises on damaged bytes.
    """
    kind = format_of(data)
    # Pillow warns above its limit and raises above twice that, before it allocates.
    PIL.Image.MAX_IMAGE_PIXELS = bounds.max_pixels
    with PIL.Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
        _check(image, bounds)
        _mend_key(image)
        image.load()
        orientation = _orientation(image)
        picture, flattened = _flat(image) if role == "image" else (_mask(image, role), False)
    turn = UPRIGHT.get(orientation)
    return Reading(kind, picture.transpose(turn) if turn is not None else picture, flattened)


def format_of(data: bytes) -> Format:
    """Tell the format by the first bytes.

    Raises:
        Unacceptable: it is none of the three.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if not data:
        raise Unacceptable("The file is empty.")
    for name, (offset, magics) in OTHERS.items():
        if data.startswith(magics, offset):
            raise Unacceptable(f"The file is {name}; {ACCEPTED}")
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        raise Unacceptable(f"The file is SVG; {ACCEPTED}")
    if start.startswith((b"<!doctype html", b"<html")):
        raise Unacceptable(f"The file is a web page; {ACCEPTED}")
    raise Unacceptable(f"The file is not an image that is known here; {ACCEPTED}")


def _check(image: ImageFile.ImageFile, bounds: Bounds) -> None:
    width, height = image.size
    if max(width, height) > bounds.max_side:
        raise OutOfBounds(
            f"The image is {width}×{height}; at most {bounds.max_side} pixels a side are accepted."
        )
    if width * height > bounds.max_pixels:
        raise OutOfBounds(too_many(bounds))
    # An MPO is a JPEG with more views of the same moment behind it, as many phones write.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Unacceptable("The image is animated; only still images are accepted.")


def too_many(bounds: Bounds) -> str:
    """The public reason for a picture over the bounds."""
    return f"The image is too large; at most {bounds.max_pixels} pixels are accepted."


def _mend_key(image: ImageFile.ImageFile) -> None:
    """Bring a PNG's transparent colour to the scale that its samples will have."""
    key: Any = image.info.get("transparency")
    rawmode = image.tile[0].args if image.tile else None
    if isinstance(key, int) and rawmode in KEY_SCALE:
        image.info["transparency"] = key * KEY_SCALE[str(rawmode)]
    elif isinstance(key, tuple) and rawmode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in cast(tuple[int, ...], key))


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except BROKEN:
        return 1


def _layers(image: PIL.Image.Image) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
    """Split into colour (L, RGB or CMYK) and alpha (L), both 8-bit; no alpha if all is opaque."""
    if image.mode == "I;16":  # Pillow's own conversion clips instead of scaling
        colour, alpha = _high_bytes(image)
    elif _has_alpha(image):
        image = image.convert("RGBA")
        colour, alpha = image.convert("RGB"), image.getchannel("A")
    else:
        modes = {"1": "L", "L": "L", "CMYK": "CMYK"}
        colour, alpha = image.convert(modes.get(image.mode, "RGB")), None
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    return colour, alpha


def _has_alpha(image: PIL.Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "La", "RGBa")


def _high_bytes(image: PIL.Image.Image) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
    samples = image.tobytes()  # little-endian
    high = PIL.Image.frombytes("L", image.size, samples[1::2])
    key: Any = image.info.get("transparency")
    if not isinstance(key, int):
        return high, None
    low = PIL.Image.frombytes("L", image.size, samples[0::2])
    return high, ImageChops.lighter(_unlike(high, key >> 8), _unlike(low, key & 255))


def _unlike(image: PIL.Image.Image, value: int) -> PIL.Image.Image:
    return image.point([0 if level == value else 255 for level in range(256)])


def _mask(image: PIL.Image.Image, role: Role) -> PIL.Image.Image:
    """Transparent = edit; where nothing is transparent, white = edit unless only alpha counts."""
    if role == "alpha" and not _has_alpha(image):
        raise Unacceptable("The image has no alpha channel; transparent pixels mark what to edit.")
    colour, alpha = _layers(image)
    if role == "alpha" and alpha is None:
        return PIL.Image.new("L", image.size)
    wanted = ImageChops.invert(alpha) if alpha else colour.convert("L")
    return wanted.point([0] * 128 + [255] * 128)


def _flat(image: PIL.Image.Image) -> tuple[PIL.Image.Image, bool]:
    """On white, and whether that made a difference."""
    profile: Any = image.info.get("icc_profile")
    colour, alpha = _layers(image)
    if isinstance(profile, bytes) and profile:
        colour = _srgb(colour, profile)
    colour = colour.convert("RGB") if colour.mode != "RGB" else colour
    if alpha is None:
        return colour, False
    white = PIL.Image.new("RGB", colour.size, "white")
    white.paste(colour, mask=alpha)
    return white, True


def _srgb(colour: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Convert by the embedded profile; a broken one, or one for other modes, says nothing."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return colour  # a detour through sRGB itself would only round
        target = cast(Any, ImageCms).createProfile("sRGB")
        return ImageCms.profileToProfile(colour, source, target, outputMode="RGB") or colour
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return colour
