"""Encoding, metadata, scaling and pasting: what leaves is what was painted, and nothing else."""

import asyncio
from collections.abc import Mapping
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngImageFile

from models.contract import Image
from server.images.pictures import Format, Picture, encode, resized

property_test = settings(max_examples=60, derandomize=True, deadline=None, database=None)
sides = st.integers(1, 24)
seeds = st.integers(0, 2**32 - 1)
FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp")
EXIF_IFD, DESCRIPTION, SOFTWARE, COMMENT = 0x8769, 0x010E, 0x0131, 0x9286


def noise(width: int, height: int, seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image(width, height, "RGB", pixels.tobytes())


def sparse_mask(width: int, height: int, seed: int) -> Image:
    random = np.random.default_rng(seed)
    wanted = random.random((height, width)) < random.choice([0.02, 0.5, 0.98])
    return Image(width, height, "L", np.where(wanted, 255, 0).astype(np.uint8).tobytes())


def array(image: Image) -> np.ndarray:
    return np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, -1)


def encoded(image: Image, kind: Format, metadata: Mapping[str, str] | None = None) -> Picture:
    return asyncio.run(encode(image, kind, metadata=metadata))


def opened(picture: Picture) -> PIL.Image.Image:
    image = PIL.Image.open(BytesIO(picture.data))
    image.load()
    return image


# -- Encoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_says_what_it_is(kind: Format) -> None:
    picture = encoded(noise(20, 10), kind)
    image = opened(picture)
    assert (picture.format, picture.width, picture.height) == (kind, 20, 10)
    assert (image.format, image.mode, image.size) == (kind.upper(), "RGB", (20, 10))
    assert picture.mime == PIL.Image.MIME[kind.upper()] == f"image/{kind}"


@property_test
@given(sides, sides, seeds)
def test_png_is_lossless(width: int, height: int, seed: int) -> None:
    image = noise(width, height, seed)
    assert opened(encoded(image, "png")).tobytes() == image.pixels


def test_masks_can_be_looked_at() -> None:
    mask = sparse_mask(9, 5, 1)
    assert opened(encoded(mask, "png")).tobytes() == mask.pixels


@pytest.mark.parametrize(("kind", "error"), [("jpeg", 3), ("webp", 6)])
def test_the_lossy_formats_stay_close(kind: Format, error: int) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(90)), axis=-1)
    image = Image(64, 64, "RGB", pixels.tobytes())
    decoded = np.asarray(opened(encoded(image, kind)).convert("RGB"), int)
    assert np.abs(decoded - array(image)).mean() < error


def test_jpeg_keeps_the_colour_of_single_pixels() -> None:
    picture = opened(encoded(noise(16, 16), "jpeg"))
    assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3


def test_quality_is_obeyed() -> None:
    sizes = [len(asyncio.run(encode(noise(64, 64), "jpeg", quality=q)).data) for q in (20, 60, 95)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert encoded(noise(64, 64), "jpeg") == asyncio.run(encode(noise(64, 64), "jpeg", quality=95))
    assert encoded(noise(64, 64), "webp") == asyncio.run(encode(noise(64, 64), "webp", quality=90))


# -- Metadata -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_embedded_unasked(kind: Format) -> None:
    image = opened(encoded(noise(8, 8), kind))
    assert dict(image.getexif()) == {}
    assert getattr(image, "text", {}) == {}
    assert not {"exif", "xmp", "comment", "icc_profile"} & set(image.info)


METADATA = {
    "parameters": "a cat\nSteps: 4",
    "Software": "limner 1",
    "Description": "Ein Kätzchen 猫",
}


@pytest.mark.parametrize("kind", FORMATS)
def test_metadata_can_be_read_back(kind: Format) -> None:
    image = opened(encoded(noise(8, 8), kind, METADATA))
    exif = image.getexif()
    assert exif[SOFTWARE] == "limner 1"
    assert exif[DESCRIPTION].encode("latin-1").decode() == METADATA["Description"]
    assert exif.get_ifd(EXIF_IFD)[COMMENT] == b"ASCII\0\0\0a cat\nSteps: 4"
    if isinstance(image, PngImageFile):
        assert image.text == METADATA


def test_other_keys_and_scripts_go_to_the_comment() -> None:
    comment = opened(encoded(noise(8, 8), "jpeg", {"Prompt": "猫", "Seed": "1"})).getexif()
    value = comment.get_ifd(EXIF_IFD)[COMMENT]
    assert (value[:8], value[8:].decode("utf-16-be")) == (b"UNICODE\0", "Prompt: 猫\nSeed: 1")


@pytest.mark.parametrize("kind", FORMATS)
def test_metadata_is_cleaned_and_capped(kind: Format) -> None:
    hostile = {
        "parameters": "a\0b\x1b[31m\ud800\r\nc" + "猫" * 100_000,
        "Description": "é" * 100_000,
        "Software": "x" * 100_000,
        "K\0ey\n\ud800猫" + "k" * 200: "v",
        "\0": "no key is left",
    }
    image = opened(encoded(noise(8, 8), kind, hostile))
    comment = image.getexif().get_ifd(EXIF_IFD)[COMMENT][8:].decode("utf-16-be")
    assert comment.startswith("ab[31m\nc猫猫")
    if isinstance(image, PngImageFile):
        assert set(image.text) == {*list(hostile)[:3], "Key " + "k" * 75}
        assert max(map(len, image.text.values())) == 32_768


# -- Scaling and pasting --------------------------------------------------------------------------


@property_test
@given(sides, sides, sides, sides, seeds)
def test_a_scaled_mask_covers_all_it_covered_and_no_more(
    width: int, height: int, new_width: int, new_height: int, seed: int
) -> None:
    mask = sparse_mask(width, height, seed)
    scaled = resized(mask, new_width, new_height)
    assert (scaled.width, scaled.height, scaled.mode) == (new_width, new_height, "L")
    for y in range(new_height):
        for x in range(new_width):
            rows = slice(y * height // new_height, -(-(y + 1) * height // new_height))
            columns = slice(x * width // new_width, -(-(x + 1) * width // new_width))
            under = array(mask)[rows, columns]
            assert array(scaled)[y, x] == (255 if under.any() else 0)


def test_a_single_pixel_survives_any_shrinking() -> None:
    pixels = bytearray(500 * 400)
    pixels[123_456] = 255
    assert resized(Image(500, 400, "L", bytes(pixels)), 3, 2).pixels.count(255) == 1


def test_pictures_are_scaled_by_lanczos() -> None:
    image = noise(30, 20)
    picture = PIL.Image.frombytes("RGB", (30, 20), image.pixels)
    expected = picture.resize((7, 41), PIL.Image.Resampling.LANCZOS).tobytes()
    assert resized(image, 7, 41) == Image(7, 41, "RGB", expected)
    assert resized(image, 30, 20) is image
