"""Between the contract's raw images and what pipelines take and give."""

import math
from collections.abc import Sequence

import torch
from PIL import Image as Pillow
from torch.nn import functional

from models.canvas import NotFinite
from models.contract import Image


def to_pillow(image: Image) -> Pillow.Image:
    """The same pixels as a Pillow image of the same mode."""
    return Pillow.frombytes(image.mode, (image.width, image.height), image.pixels)


def from_tensor(picture: torch.Tensor) -> Image:
    """An RGB image from floats in 0 … 1, shape (3, height, width).

    Rounds as diffusers' own post-processing does, so the pixels equal a stock pipeline's.

    Raises:
        NotFinite: the tensor holds NaN or infinity, which a plain cast would show as black.
    """
    if not torch.isfinite(picture).all():
        raise NotFinite("the decoded picture holds NaN or infinity")
    # In half precision there are fewer than 256 steps from 0 to 1 in places.
    bytes_ = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu()
    height, width, _ = bytes_.shape
    return Image(width, height, "RGB", bytes_.contiguous().numpy().tobytes())


def side_by_side(images: Sequence[Pillow.Image]) -> Pillow.Image:
    """Several images as one row at the height of the first, of at most twice the first's area."""
    first = images[0]
    if len(images) == 1:
        return first
    aspect = sum(image.width / image.height for image in images)
    bound = math.sqrt(2 * first.width * first.height / aspect)
    height = max(1, min(first.height, int(bound)))
    row = [
        image.resize((max(1, round(image.width * height / image.height)), height))
        for image in images
    ]
    stitched = Pillow.new("RGB", (sum(image.width for image in row), height))
    left = 0
    for image in row:
        stitched.paste(image, (left, 0))
        left += image.width
    return stitched


def finished(picture: torch.Tensor, base: Image | None) -> Image:
    """A decoded picture, fit to be delivered.

    Raises:
        NotFinite: it holds NaN or infinity, or is black all over although its base is not.
    """
    image = from_tensor(picture)
    if not any(image.pixels) and (base is None or any(base.pixels)):
        raise NotFinite("the picture is black all over")
    return image


def whole_cells(mask: Pillow.Image, cell: int) -> Pillow.Image:
    """The mask grown to whole latents of `cell` px: sampling one pixel of each could miss strokes.

    Pixels that the caller did not mask are pasted back later, so growing costs nothing.
    """
    pixels = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8)
    marked = (pixels.view(1, 1, mask.height, mask.width) >= 128).float()
    cells = functional.max_pool2d(marked, cell)
    grown = functional.interpolate(cells, scale_factor=cell, mode="nearest")[0, 0] * 255
    return Pillow.fromarray(grown.to(torch.uint8).numpy())
