"""Decoding a picture in tiles, when the device has no room to decode it at once.

Tiles overlap and are blended, so pixels near their borders differ a little from a decode at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from models import device
from models.canvas import Call, OutOfMemory

TILE = 512  # px; a side of a tile
NOTE = "image: decoded in tiles for want of memory, which may show along their borders"


def or_in_tiles(
    vae: Any,
    decode: Callable[..., Any],
    ask: Callable[[Call], Any],
    note: Callable[[str], None],
) -> Callable[..., Any]:
    """`decode` (which stops the canvas), and a second try in tiles if it did not fit.

    Args:
        ask: the easel's `ask`.
        note: the easel's `note`.
    """

    def replacement(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        try:
            return decode(z, *args, **kwargs)
        except OutOfMemory:
            if not hasattr(vae, "tiled_decode"):
                raise
        # Beyond the except block: its exception would keep the activations that did not fit.
        note(NOTE)
        return ask(Call("tiles", None, run_tiled, (vae, z)))

    return replacement


def run_tiled(calls: Sequence[Call]) -> Sequence[Any]:
    """Decode one canvas's latents tile by tile.

    Raises:
        OutOfMemory, DeviceLost: see `device.named_faults`.
    """
    vae, z = calls[0].arguments
    with device.named_faults(), torch.no_grad():
        if hasattr(vae, "tile_latent_min_size"):  # the others' tiles are small already
            shrink = 2 ** (len(vae.config.block_out_channels) - 1)
            vae.tile_sample_min_size = TILE
            vae.tile_latent_min_size = TILE // shrink
        return [vae.tiled_decode(z, return_dict=False)]
