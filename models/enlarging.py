"""Super-resolution: a network that makes a decoded picture larger before it leaves the device.

Any architecture that spandrel knows by its tensors (ESRGAN, Compact, SwinIR, DAT, …), in a
`.safetensors` file. Knows nothing of requests, nor of how large a picture is delivered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from models import device
from models.canvas import Call, Easel, OutOfMemory, Unloadable
from models.contract import ModelSpec

TILE = 512  # px; larger pictures are made larger tile by tile
TRIED = (24, 40)  # px; height and width of the picture that is enlarged for a trial
OVERLAP = 24  # px of its neighbours that a tile sees on each side

Network: TypeAlias = Callable[[torch.Tensor], torch.Tensor]  # (n, 3, h, w) of 0 … 1


@dataclass(frozen=True, slots=True)
class Enlarger:
    """A network that is loaded; `scale` times as wide and as high is what it gives."""

    network: torch.nn.Module
    run_on: Network  # calls the network, with what its architecture wants of sizes
    scale: int
    dtype: torch.dtype

    @classmethod
    def load(cls, file: Path, target: torch.device) -> "Enlarger":
        """From a `.safetensors` file.

        Raises:
            Unloadable: it is damaged, unknown, or does something else than enlarging colours.
        """
        import spandrel  # takes a second, which whoever has no enlarger need not wait

        try:
            found: Any = spandrel.ModelLoader().load_from_state_dict(load_file(file))
        except (OSError, SafetensorError, RuntimeError, spandrel.UnsupportedModelError) as error:
            raise Unloadable(f"enlarger {file}: {type(error).__name__}: {error}") from error
        colors = getattr(found, "input_channels", 0), getattr(found, "output_channels", 0)
        if not isinstance(found, spandrel.ImageModelDescriptor) or colors != (3, 3):
            raise Unloadable(f"enlarger {file}: {found.architecture.name} does not enlarge colours")
        if found.scale < 2:
            raise Unloadable(f"enlarger {file}: this one does not enlarge")
        half = target.type == "cuda" and found.supports_bfloat16
        dtype = torch.bfloat16 if half else torch.float32
        enlarger = cls(found.model.eval().to(target, dtype), found, found.scale, dtype)
        device.channels_last(enlarger.network)  # a third less time, on a CPU as well
        enlarger._try(file, target)
        return enlarger

    def _try(self, file: Path, target: torch.device) -> None:
        """See that it enlarges a picture of odd sides.

        Raises:
            Unloadable: it does not.
        """
        height, width = TRIED
        try:
            with torch.no_grad():
                found = self.run(torch.rand(1, 3, height, width, device=target))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise Unloadable(f"enlarger {file}: {type(error).__name__}: {error}") from error
        if found.shape != (1, 3, height * self.scale, width * self.scale):
            raise Unloadable(f"enlarger {file}: makes {tuple(found.shape)} of {TRIED}")

    def enlarged(self, picture: torch.Tensor, easel: Easel) -> torch.Tensor:
        """A picture of shape (3, h, w) in 0 … 1, `scale` times as large; itself, which is said,
        where there is no room for that. Stops the canvas."""
        key = (id(self.network), tuple(picture.shape))
        try:
            return easel.ask(Call("enlarge", key, run_enlarging, (self, picture)))
        except OutOfMemory:
            easel.note("image: not enlarged by the network for want of memory")
            return picture

    def run(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures of shape (n, 3, h, w), all together."""
        larger = in_tiles(self.run_on, pictures.to(self.dtype), self.scale)
        return larger.to(pictures.dtype).clamp(0, 1)


def enlarger_of(spec: ModelSpec, target: torch.device) -> Enlarger | None:
    """That of a model, if it has one.

    Raises:
        Unloadable: see `Enlarger.load`.
    """
    return Enlarger.load(Path(spec.enlarger), target) if spec.enlarger else None


def run_enlarging(calls: Sequence[Call]) -> Sequence[torch.Tensor]:
    """Enlarge pictures of one size.

    Raises:
        OutOfMemory, DeviceLost: see `device.named_faults`.
    """
    enlarger: Enlarger = calls[0].arguments[0]
    with device.named_faults(), torch.no_grad():
        return list(enlarger.run(torch.stack([call.arguments[1] for call in calls])))


def in_tiles(network: Network, pictures: torch.Tensor, scale: int) -> torch.Tensor:
    """What the network gives for pictures of any size; of a large one, put together from tiles."""
    height, width = pictures.shape[-2:]
    if height <= TILE and width <= TILE:
        return network(pictures)
    rows = [
        torch.cat([tile(network, pictures, scale, y, x) for x in range(0, width, TILE)], dim=-1)
        for y in range(0, height, TILE)
    ]
    return torch.cat(rows, dim=-2)


def tile(network: Network, pictures: torch.Tensor, scale: int, y: int, x: int) -> torch.Tensor:
    """What the network gives for the tile whose left top is at (x, y), its surroundings seen."""
    around = functional.pad(pictures, (OVERLAP,) * 4, mode="replicate")
    height = min(TILE, pictures.shape[-2] - y)
    width = min(TILE, pictures.shape[-1] - x)
    seen = around[..., y : y + height + 2 * OVERLAP, x : x + width + 2 * OVERLAP]
    edge = OVERLAP * scale
    return network(seen)[..., edge : edge + height * scale, edge : edge + width * scale]
