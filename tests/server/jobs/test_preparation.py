"""What becomes of uploads before they are sent to a worker."""

import pytest

from models.contract import Image, Job
from server.jobs.intake import Draft, Order
from server.jobs.preparation import Inputs, prepare
from server.sizes import Size


def image(width: int, height: int, mode: str = "RGB") -> Image:
    return Image(width, height, mode, bytes(width * height * (3 if mode == "RGB" else 1)))


def order(inputs: int, masked: bool = False) -> Order:
    return Order(
        draft=Draft(dialect="aimo", task="edit", model="m", prompt="p", images=(b"file",)),
        job=Job(
            id="j",
            model="m",
            task="inpaint" if masked else "edit",
            prompt="p",
            width=128,
            height=64,
            steps=4,
            guidance=1.0,
            seeds=(1,),
            inputs=inputs,
            masked=masked,
        ),
        output=Size(256, 128),
        notices=(),
    )


def test_the_base_is_cropped_and_scaled_to_what_is_painted() -> None:
    prepared = prepare(order(1), Inputs((image(300, 300),), None, (Size(300, 300),), ()))
    (base,) = prepared.images
    assert (base.width, base.height) == (128, 64)
    assert prepared.order.draft.images == ()  # the files are not kept while it waits


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((300, 300), (96, 96)),
        ((400, 200), (128, 64)),
        ((64, 80), (64, 80)),
        ((40, 400), (64, 512)),  # cut to 8:1, and no side under 64
        ((4000, 10), (512, 64)),
        ((3, 3), (64, 64)),
    ],
)
def test_other_images_stay_whole_and_of_their_shape(size, expected) -> None:
    images = (image(128, 64), image(*size))
    prepared = prepare(order(2), Inputs(images, None, (), ()))
    other = prepared.images[1]
    assert (other.width, other.height) == expected


def test_surplus_images_are_not_sent() -> None:
    prepared = prepare(order(1), Inputs((image(64, 64), image(64, 64)), None, (), ()))
    assert len(prepared.images) == 1


def test_outside_of_a_mask_the_base_is_kept_at_the_size_of_the_answer() -> None:
    inputs = Inputs((image(256, 128),), image(256, 128, "L"), (), ())
    prepared = prepare(order(1, masked=True), inputs)
    assert prepared.mask is not None
    assert prepared.base_outside is not None
    assert (prepared.mask.width, prepared.base_outside.width) == (128, 256)


@pytest.mark.parametrize("hollow", [False, True])
def test_paint_is_blended_with_a_base_unless_there_is_none(hollow: bool) -> None:
    half = Image(256, 128, "L", (b"\xff" * 128 + bytes(128)) * 128)
    prepared = prepare(order(1, masked=True), Inputs((image(256, 128),), half, (), (), hollow))
    painted = Image(256, 128, "RGB", b"\xff" * (256 * 128 * 3))
    row = prepared.finish(painted).pixels[: 256 * 3]
    assert row[: 120 * 3] == b"\xff" * (120 * 3)
    assert row[128 * 3 :] == bytes(128 * 3)
    assert (row[120 * 3 : 128 * 3] == b"\xff" * (8 * 3)) == hollow
