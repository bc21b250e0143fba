"""A decoded picture becomes the bytes that diffusers' own post-processing would give, and is shown
for what it is when it is none."""

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from models.canvas import NotFinite
from models.contract import Image
from models.pixels import Arrival

BLACK = Image(2, 1, "RGB", bytes(6))
GREY = Image(2, 1, "RGB", bytes([0, 0, 0, 0, 0, 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bytes_equal_those_of_diffusers(dtype: torch.dtype) -> None:
    decoded = torch.linspace(-1.2, 1.2, 3 * 64 * 48).reshape(1, 3, 64, 48).to(dtype)
    picture = VaeImageProcessor().postprocess(decoded, output_type="pt")[0]
    (theirs,) = VaeImageProcessor().postprocess(decoded.clone(), output_type="pil")
    image = Arrival(picture).image()
    assert (image.width, image.height) == (48, 64)
    assert image.pixels == np.asarray(theirs).tobytes()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_none_spoils_it(bad: float) -> None:
    picture = torch.full((3, 8, 8), 0.5)
    picture[1, 2, 3] = bad
    with pytest.raises(NotFinite, match="NaN"):
        Arrival(picture).image()


def test_all_black_is_a_fault_unless_it_may_be() -> None:
    black = torch.zeros(3, 1, 2)
    for base in (None, GREY):
        with pytest.raises(NotFinite, match="black"):
            Arrival(black).image(base)
    assert Arrival(black).image(BLACK) == BLACK
    assert Arrival(black).image(black=True) == BLACK
    black[2, 0, 1] = 1 / 255
    assert Arrival(black).image(GREY) == GREY
