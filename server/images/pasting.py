"""Paint under a mask, put into the picture it was made for: the seam lies inside the mask.

Pure, and for threads. Knows nothing of requests or of files.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.contract import Image

FEATHER = 3  # px inside the mask over which paint and base are blended

Marks: TypeAlias = npt.NDArray[np.bool_]


def paste_back(painted: Image, base: Image, mask: Image, *, hollow: bool = False) -> Image:
    """The base with the paint where the mask is ≥ 128, blended along the edge from inside.

    Outside every pixel is exactly the base's. Strokes too thin to be blended are all paint, and so
    is everything inside if the base is `hollow` there: nothing that could be blended.

    Raises:
        ValueError: the three differ in size, or are not RGB, RGB and L.
    """
    kinds = [(image.mode, image.width, image.height) for image in (painted, base, mask)]
    size = (base.width, base.height)
    if kinds != [("RGB", *size), ("RGB", *size), ("L", *size)]:
        raise ValueError(f"cannot paste {kinds[0]} into {kinds[1]} by {kinds[2]}")
    paint, below = _pixels(painted).astype(np.int16), _pixels(base).astype(np.int16)
    marked = _pixels(mask)[..., 0] >= 128
    share = (marked * np.int16(FEATHER + 1) if hollow else feathered(marked))[..., None]
    blended = below + (paint - below) * share // (FEATHER + 1)
    return Image(base.width, base.height, "RGB", blended.astype(np.uint8).tobytes())


def feathered(marked: Marks) -> npt.NDArray[np.int16]:
    """How much paint each pixel gets, from 0 to FEATHER + 1; the picture's border is no edge."""
    share = marked.astype(np.int16)
    inner = marked
    for _ in range(FEATHER):
        inner = _all_around(inner)
        share += inner
    thick = inner
    for _ in range(FEATHER):
        thick = ~_all_around(~thick)
    return np.where(marked & ~thick, np.int16(FEATHER + 1), share)


def _all_around(marked: Marks) -> Marks:
    """The pixels that are marked with all eight neighbours."""
    for axis in (0, 1):
        edge = [(1, 1) if each == axis else (0, 0) for each in (0, 1)]
        wide = np.pad(marked, edge, constant_values=True)
        length = marked.shape[axis]
        spans = [np.take(wide, range(start, start + length), axis) for start in range(3)]
        marked = spans[0] & spans[1] & spans[2]
    return marked


def _pixels(image: Image) -> npt.NDArray[np.uint8]:
    """A view of the pixels: height × width × channels."""
    return np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, -1)
