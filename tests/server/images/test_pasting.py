"""Paint goes where the mask is, and its seam lies inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import Image
from server.images.pasting import FEATHER, feathered, paste_back

property_test = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def noise(width: int, height: int, seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image(width, height, "RGB", pixels.tobytes())


def array(image: Image) -> np.ndarray:
    return np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, -1)


def blobs(width: int, height: int, seed: int) -> np.ndarray:
    """Levels of a mask with thick parts, thin ones and holes."""
    random = np.random.default_rng(seed)
    levels = random.integers(0, 256, (height, width), np.uint8)
    levels[random.random((height, width)) < 0.9] = 0
    for _ in range(3):
        top, left = random.integers(0, height), random.integers(0, width)
        levels[top : top + random.integers(1, 20), left : left + random.integers(1, 20)] = 255
    return levels


@property_test
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_outside_nothing_changes_and_inside_is_paint(width: int, height: int, seed: int) -> None:
    painted, base, levels = (
        noise(width, height, 1),
        noise(width, height, 2),
        blobs(width, height, seed),
    )
    mask = Image(width, height, "L", levels.tobytes())
    result, paint, below = (
        array(each) for each in (paste_back(painted, base, mask), painted, base)
    )
    assert np.array_equal(result[levels < 128], below[levels < 128])
    share = feathered(levels >= 128)
    assert np.array_equal(result[share == FEATHER + 1], paint[share == FEATHER + 1])
    assert (share[levels >= 128] > 0).all()
    low, high = np.minimum(paint, below), np.maximum(paint, below)
    assert ((low <= result) & (result <= high)).all()


def test_the_edge_of_a_square_is_blended_over_some_pixels() -> None:
    marked = np.zeros((30, 30), np.bool_)
    marked[5:25, 5:25] = True
    row = feathered(marked)[15]
    assert row[4:11].tolist() == [0, 1, 2, 3, 4, 4, 4]
    assert row[4:].tolist() == row[:-4][::-1].tolist()


def test_a_hollow_base_is_not_blended_with() -> None:
    painted, base, levels = noise(30, 30, 1), noise(30, 30, 2), np.zeros((30, 30), np.uint8)
    levels[5:25, 5:25] = 255
    result = array(paste_back(painted, base, Image(30, 30, "L", levels.tobytes()), hollow=True))
    wanted = np.where(levels[..., None] == 255, array(painted), array(base))
    assert np.array_equal(result, wanted)


def test_the_border_of_the_picture_is_no_edge() -> None:
    assert (feathered(np.ones((9, 9), np.bool_)) == FEATHER + 1).all()


@pytest.mark.parametrize("thickness", range(1, 2 * FEATHER + 1))
def test_thin_strokes_are_all_paint(thickness: int) -> None:
    marked = np.zeros((30, 30), np.bool_)
    marked[10 : 10 + thickness, 4:26] = True
    assert (feathered(marked)[marked] == FEATHER + 1).all()


def test_only_what_fits_can_be_pasted() -> None:
    mask = Image(2, 2, "L", bytes(4))
    for painted, base, by in (
        (noise(2, 2), noise(2, 2), Image(2, 1, "L", bytes(2))),
        (noise(2, 2), noise(1, 2), mask),
        (noise(2, 2), noise(2, 2), noise(2, 2)),
        (mask, noise(2, 2), mask),
    ):
        with pytest.raises(ValueError, match="cannot paste"):
            paste_back(painted, base, by)
