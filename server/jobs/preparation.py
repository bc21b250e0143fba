"""Uploads on their way to the worker, and what its images are finished with on their way out.

Everything here is pure and for threads. Knows nothing of requests, of files or of workers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.contract import Image
from server.images.pasting import paste_back
from server.images.pictures import cropped, resized
from server.jobs.catalog import Size
from server.jobs.intake import LONGEST, Notice, Order, alike, elongated

REFERENCE_STEP = 16  # px; models look at squares of so many
REFERENCE_SIDE = 64  # px; and at no smaller images


@dataclass(frozen=True, slots=True)
class Inputs:
    """The uploaded images, decoded: upright RGB, the mask L; of surplus ones the size only."""

    images: tuple[Image, ...]
    mask: Image | None
    sizes: tuple[Size, ...]
    notices: tuple[Notice, ...]
    hollow: bool = False  # there is nothing in the base where the mask marks it


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An order with its images: at paint size for the worker, at output size for the finish."""

    order: Order
    sizes: tuple[Size, ...]  # of the images as uploaded
    images: Sequence[Image] = ()
    mask: Image | None = None
    base_outside: Image | None = None
    mask_outside: Image | None = None
    hollow: bool = False

    def finish(self, painted: Image) -> Image:
        """The list of what happens after painting; later steps never see earlier images."""
        output = self.order.output
        image = resized(painted, output.width, output.height)
        if self.base_outside is not None and self.mask_outside is not None:
            image = paste_back(image, self.base_outside, self.mask_outside, hollow=self.hollow)
        return image


def prepare(order: Order, inputs: Inputs) -> Prepared:
    """Bring the images to the sizes they are needed at, cropping a base of another shape."""
    job, output = order.job, order.output
    order = replace(order, draft=replace(order.draft, images=(), mask=None))
    if not job.inputs:
        return Prepared(order=order, sizes=inputs.sizes)
    base, *others = inputs.images[: job.inputs]
    base = shaped(base, output)
    images = [resized(base, job.width, job.height)]
    images += [reference(other, job.width * job.height) for other in others]
    if not job.masked or inputs.mask is None:
        return Prepared(order=order, sizes=inputs.sizes, images=images)
    mask = shaped(inputs.mask, output)
    return Prepared(
        order=order,
        sizes=inputs.sizes,
        images=images,
        mask=resized(mask, job.width, job.height),
        base_outside=resized(base, output.width, output.height),
        mask_outside=resized(mask, output.width, output.height),
        hollow=inputs.hollow,
    )


def reference(image: Image, area: int) -> Image:
    """An image that is only looked at: of its own shape, and of about the area that is painted at
    the most, but no side shorter than models can look at."""
    if elongated(size := Size(image.width, image.height)):
        image = cropped(image, LONGEST if size.aspect > 1 else 1 / LONGEST)
        size = Size(image.width, image.height)
    scale = max(
        REFERENCE_SIDE / min(size.width, size.height), min(1.0, math.sqrt(area / size.area))
    )
    sides = (round(side * scale / REFERENCE_STEP) for side in (size.width, size.height))
    width, height = (max(REFERENCE_SIDE, side * REFERENCE_STEP) for side in sides)
    return resized(image, width, height)


def shaped(image: Image, output: Size) -> Image:
    """The part of an image that has the answer's shape."""
    same = alike(Size(image.width, image.height), output)
    return image if same else cropped(image, output.aspect)
