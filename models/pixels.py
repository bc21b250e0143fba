"""Between the contract's raw images and what pipelines take and give."""

import math
from collections.abc import Sequence

import torch
from PIL import Image as Pillow
from torch.nn import functional

from models import device
from models.canvas import Call, Easel, NotFinite
from models.contract import Image


def to_pillow(image: Image) -> Pillow.Image:
    """The same pixels as a Pillow image of the same mode."""
    return Pillow.frombytes(image.mode, (image.width, image.height), image.pixels)


class Arrival:
    """A picture on its way from the device, which goes on working meanwhile.

    Takes floats in 0 … 1, shape (3, height, width). Rounds as diffusers' own post-processing does,
    so the pixels equal a stock pipeline's.
    """

    def __init__(self, picture: torch.Tensor) -> None:
        # In half precision there are fewer than 256 steps from 0 to 1 in places.
        levels = picture.float().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0)
        # Whatever is not finite makes the sum so; to look at each would take twice all the rest.
        finite = torch.isfinite(picture.sum(dtype=torch.float32))
        self._facts = sent(torch.stack([finite, levels.any()]))
        self._levels = sent(levels.contiguous())
        self._sent = torch.cuda.Event() if picture.is_cuda else None
        if self._sent is not None:
            self._sent.record()

    def ready(self) -> bool:
        """Whether `image` would return at once."""
        return self._sent is None or self._sent.query()

    def wait(self) -> None:
        """Until it is."""
        if self._sent is not None:
            self._sent.synchronize()

    def image(self, base: Image | None = None, *, black: bool = False) -> Image:
        """An RGB image.

        Args:
            base: what it was painted from.
            black: whether it may be black all over even so, as it may if its base is.

        Raises:
            NotFinite: it holds NaN or infinity, which a plain cast would show as black, or is black
                and may not be.
        """
        self.wait()
        finite, lit = self._facts.tolist()
        if not finite:
            raise NotFinite("the decoded picture holds NaN or infinity")
        if not (lit or black or (base is not None and not any(base.pixels))):
            raise NotFinite("the picture is black all over")
        height, width, _ = self._levels.shape
        return Image(width, height, "RGB", self._levels.numpy().tobytes())


def sent(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the machine's memory; from a GPU, one that is there only later."""
    if not tensor.is_cuda:
        return tensor
    there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return there.copy_(tensor, non_blocking=True)


def delivered(picture: torch.Tensor, base: Image | None, easel: Easel) -> Image:
    """A decoded picture as an image; others are painted while it is on its way.

    Raises:
        NotFinite: see `Arrival.image`.
    """
    arrival = Arrival(picture)
    if not arrival.ready():
        easel.ask(Call("arrival", None, run_arrival, arrival, arrival.ready))
    return arrival.image(base)


def run_arrival(calls: Sequence[Call]) -> Sequence[None]:
    """Wait for what has nothing else to wait for.

    Raises:
        DeviceLost: see `device.named_faults`.
    """
    with device.named_faults():
        return [call.arguments.wait() for call in calls]


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


def whole_cells(mask: Pillow.Image, cell: int) -> Pillow.Image:
    """The mask grown to whole latents of `cell` px: sampling one pixel of each could miss strokes.

    Pixels that the caller did not mask are pasted back later, so growing costs nothing.
    """
    pixels = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8)
    marked = (pixels.view(1, 1, mask.height, mask.width) >= 128).float()
    cells = functional.max_pool2d(marked, cell)
    grown = functional.interpolate(cells, scale_factor=cell, mode="nearest")[0, 0] * 255
    return Pillow.fromarray(grown.to(torch.uint8).numpy())
