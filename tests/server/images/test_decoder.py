"""What uploaded files become, in a real child process: formats, modes, turns, masks, colour."""

import asyncio
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from models.contract import Image
from server.errors import BadImage, BadMask
from server.images.pictures import DecodeLimits, Decoders

Open = Callable[..., Image]


@pytest.fixture(scope="module")
def opened() -> Iterator[Open]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        pool = Decoders(DecodeLimits(max_pixels=1_000_000, max_side=2000, children=1))
        decoders = runner.run(stack.enter_async_context(pool))

        def call(data: bytes, role: str = "image", **how: Any) -> Image:
            return runner.run(getattr(decoders, role)(data, param=role, **how))

        yield call
        runner.run(stack.aclose())


def saved(picture: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(depth: int, colour: int, width: int, row: bytes, key: bytes = b"") -> bytes:
    """A PNG of one row, in any of the format's own pixel layouts."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)),
            chunk(b"tRNS", key) if key else b"",
            chunk(b"IDAT", zlib.compress(b"\0" + row)),
            chunk(b"IEND", b""),
        ]
    )


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def palette(**options: Any) -> bytes:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    return saved(picture, **options)


def pixels(mode: str, *values: Any) -> PIL.Image.Image:
    picture = PIL.Image.new(mode, (len(values), 1))
    picture.putdata(values)
    return picture


# -- Images ---------------------------------------------------------------------------------------


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers())
def test_a_png_gives_back_its_very_pixels(opened: Open, width: int, height: int, seed: int) -> None:
    raw = random.Random(seed).randbytes(width * height * 3)
    file = saved(PIL.Image.frombytes("RGB", (width, height), raw))
    assert opened(file) == Image(width, height, "RGB", raw)


MODES = {
    "1": (saved(pixels("1", 0, 255)), [0, 0, 0, 255, 255, 255]),
    "L": (saved(pixels("L", 7, 200)), [7, 7, 7, 200, 200, 200]),
    "L of 2 bits": (png(2, 0, 2, b"\x10"), [0, 0, 0, 85, 85, 85]),
    "L of 2 bits, keyed": (png(2, 0, 2, b"\x10", shorts(1)), [0, 0, 0, 255, 255, 255]),
    "L of 4 bits, keyed": (png(4, 0, 2, b"\x10", shorts(1)), [255, 255, 255, 0, 0, 0]),
    "LA": (saved(pixels("LA", (0, 0), (9, 255))), [255, 255, 255, 9, 9, 9]),
    "LA of 16 bits": (png(16, 4, 1, shorts(0x1234, 0xFFFF)), [0x12] * 3),
    "P": (palette(), [10, 20, 30, 40, 50, 60]),
    "P, keyed": (palette(transparency=0), [255, 255, 255, 40, 50, 60]),
    "P with alpha": (palette(transparency=b"\xff\x00"), [10, 20, 30, 255, 255, 255]),
    "RGBA": (saved(pixels("RGBA", (0, 0, 0, 51), (1, 2, 3, 255))), [204] * 3 + [1, 2, 3]),
    "I;16": (png(16, 0, 3, shorts(0, 0x8000, 0xFFFF)), [0] * 3 + [128] * 3 + [255] * 3),
    "I;16, keyed": (png(16, 0, 2, shorts(0x1234, 0x1235), shorts(0x1234)), [255] * 3 + [0x12] * 3),
    "RGB of 16 bits": (png(16, 2, 1, shorts(0x0102, 0x7F03, 0xFF04)), [1, 127, 255]),
    "RGB of 16 bits, keyed": (png(16, 2, 1, shorts(1, 513, 3), shorts(1, 513, 3)), [255] * 3),
    "RGBA of 16 bits": (png(16, 6, 1, shorts(0x0102, 0x7F03, 0xFF04, 0xFFFF)), [1, 127, 255]),
    "CMYK JPEG": (saved(PIL.Image.new("CMYK", (1, 1)), "JPEG"), [255, 255, 255]),
    "grey JPEG": (saved(PIL.Image.new("L", (1, 1), 90), "JPEG"), [90, 90, 90]),
    "RGBA WebP": (saved(pixels("RGBA", (5, 5, 5, 0)), "WEBP", lossless=True), [255, 255, 255]),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb_on_white(opened: Open, name: str) -> None:
    file, expected = MODES[name]
    assert list(opened(file).pixels) == expected


TURNS: dict[int, Callable[[Any], Any]] = {  # from upright to as stored, by the EXIF specification
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_turned_upright(opened: Open, turn: int, kind: str) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    stored = PIL.Image.fromarray(np.ascontiguousarray(TURNS[turn](upright)))
    file = saved(stored, kind, exif=exif, lossless=True)
    assert opened(file) == Image(5, 3, "RGB", upright.tobytes())


def test_masks_are_turned_upright_too(opened: Open) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    assert opened(saved(pixels("L", 255, 0, 0), exif=exif), "mask").pixels == bytes([0, 0, 255])


TEXT_FOR_ORIENTATION = struct.pack("<4sIHHHI4sI", b"II*\0", 8, 1, 0x0112, 2, 2, b"a\0\0\0", 0)


@pytest.mark.parametrize("exif", [b"nonsense", b"II*\0\xff\xff\xff\xff", TEXT_FOR_ORIENTATION])
def test_broken_exif_is_no_reason_to_refuse(opened: Open, exif: bytes) -> None:
    file = saved(pixels("RGB", (1, 2, 3)), exif=b"Exif\0\0" + exif)
    assert opened(file).pixels == bytes([1, 2, 3])


def profile_with_swapped_primaries() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    for a, b in ((b"rXYZ", b"_XYZ"), (b"bXYZ", b"rXYZ"), (b"_XYZ", b"bXYZ")):
        profile = profile.replace(a, b)
    return profile


def test_an_embedded_profile_is_applied(opened: Open) -> None:
    picture = PIL.Image.new("RGBA", (1, 1), (255, 0, 0, 255))
    red, green, blue = opened(saved(picture, icc_profile=profile_with_swapped_primaries())).pixels
    assert (red, green, blue) == (0, 0, 255)


@pytest.mark.parametrize("profile", [b"not a profile", b"\0" * 128])
def test_a_broken_profile_is_ignored(opened: Open, profile: bytes) -> None:
    file = saved(pixels("RGB", (1, 2, 3)), icc_profile=profile)
    assert opened(file).pixels == bytes([1, 2, 3])


def test_the_first_view_of_a_phone_s_multi_picture_counts(opened: Open) -> None:
    views = [PIL.Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    file = saved(views[0], "MPO", save_all=True, append_images=views[1:])
    assert opened(file) == Image(16, 16, "RGB", b"\xff" * 768)


# -- Masks ----------------------------------------------------------------------------------------

MASKS = {
    "white is edit": (saved(pixels("L", 0, 127, 128, 255)), [0, 0, 255, 255]),
    "also in colour": (saved(pixels("RGB", (255, 255, 255), (0, 0, 255))), [255, 0]),
    "and in one bit": (saved(pixels("1", 0, 255)), [0, 255]),
    "and in 16 bits": (png(16, 0, 3, shorts(255, 0x7FFF, 0x8000)), [0, 0, 255]),
    "and by a palette": (palette(), [0, 0]),
    "transparent is edit": (saved(pixels("LA", (255, 255), (255, 0), (0, 0))), [0, 255, 255]),
    "half transparent": (saved(pixels("RGBA", (0, 0, 0, 127), (0, 0, 0, 128))), [255, 0]),
    "all transparent": (saved(pixels("RGBA", (0, 0, 0, 0))), [255]),
    "opaque alpha is no alpha": (saved(pixels("LA", (0, 255), (255, 255))), [0, 255]),
    "a key is alpha": (png(16, 0, 2, shorts(0, 0xFFFF), shorts(0)), [255, 0]),
    "a palette's alpha": (palette(transparency=b"\xff\x00"), [0, 255]),
    "WebP": (saved(pixels("RGBA", (9, 9, 9, 0), (9, 9, 9, 255)), "WEBP", lossless=True), [255, 0]),
}


@pytest.mark.parametrize("name", MASKS)
def test_mask_polarity(opened: Open, name: str) -> None:
    file, expected = MASKS[name]
    mask = opened(file, "mask")
    assert (mask.mode, list(mask.pixels)) == ("L", expected)


ALPHA_MASKS: dict[str, tuple[bytes, list[int]]] = {
    "transparent": (saved(pixels("LA", (255, 0), (0, 255), (0, 127), (0, 128))), [255, 0, 255, 0]),
    "all opaque, whatever its colour": (saved(pixels("LA", (0, 255), (255, 255))), [0, 0]),
    "a key": (png(16, 0, 2, shorts(0, 0xFFFF), shorts(0)), [255, 0]),
    "a key that no pixel has": (png(8, 0, 2, bytes([9, 9]), shorts(1)), [0, 0]),
}


@pytest.mark.parametrize("name", ALPHA_MASKS)
def test_masks_by_alpha_alone(opened: Open, name: str) -> None:
    file, expected = ALPHA_MASKS[name]
    mask = opened(file, "mask", alpha=True)
    assert (mask.mode, list(mask.pixels)) == ("L", expected)


def test_a_mask_by_alpha_is_turned_upright(opened: Open) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    file = saved(pixels("LA", (0, 0), (0, 255), (0, 255)), exif=exif)
    assert list(opened(file, "mask", alpha=True).pixels) == [0, 0, 255]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_mask_by_alpha_has_an_alpha_channel(opened: Open, mode: str) -> None:
    with pytest.raises(BadMask, match="no alpha channel"):
        opened(saved(PIL.Image.new(mode, (2, 2))), "mask", alpha=True)


# -- Refusals -------------------------------------------------------------------------------------

SMALL = PIL.Image.new("RGB", (2, 2))
OTHERS = {
    "GIF": saved(SMALL, "GIF"),
    "BMP": saved(SMALL, "BMP"),
    "TIFF": saved(SMALL, "TIFF"),
    "AVIF": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a web page": b"<!DOCTYPE html><title>404</title>",
    "not an image": b"hello",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_name(opened: Open, name: str) -> None:
    with pytest.raises(BadImage) as refusal:
        opened(OTHERS[name])
    assert name in refusal.value.message
    assert "PNG, JPEG and WebP" in refusal.value.message
    assert refusal.value.param == "image"


def test_a_mask_is_refused_as_a_mask(opened: Open) -> None:
    with pytest.raises(BadMask, match="empty") as refusal:
        opened(b"", "mask")
    assert refusal.value.param == "mask"


def test_what_pillow_said_goes_to_the_log(opened: Open) -> None:
    with pytest.raises(BadImage, match="damaged") as refusal:
        opened(saved(PIL.Image.effect_noise((64, 64), 50))[:2000])
    assert "Error" in str(refusal.value.__cause__)
    assert "Error" not in refusal.value.message
