"""Networks compiled by torch: which parts of them, and when, which is never while somebody waits.

What is compiled is compiled while its model is loaded. Whatever does not fit it later (a shape that
was not met, a module that was exchanged) is run as it came, for compiling takes longer than a
picture.
"""

import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import torch
import torch.fx.experimental._config as shapes

from models.merge import Forward, Way

log = logging.getLogger(__name__)

# The parts that repeat, by the class of the network: compiled once for all their like. diffusers
# has such a list too, but none for SD3, and for UNets one that leaves most of them out.
REGIONS: Mapping[str, Sequence[str]] = {
    "UNet2DConditionModel": ("ResnetBlock2D", "Transformer2DModel"),
    "SD3Transformer2DModel": ("JointTransformerBlock",),
    "FluxTransformer2DModel": ("FluxTransformerBlock", "FluxSingleTransformerBlock"),
    "Flux2Transformer2DModel": ("Flux2TransformerBlock", "Flux2SingleTransformerBlock"),
    "QwenImageTransformer2DModel": ("QwenImageTransformerBlock",),
    "ZImageTransformer2DModel": ("ZImageTransformerBlock",),
}
# Variants of one part that are kept: UNets have blocks of many widths, and several models may be
# in memory. Beyond them torch would refuse to run.
VARIANTS = 512


def in_regions(denoiser: Any, decoder: Any, *, backend: Any = "inductor") -> int:
    """Have the denoiser's repeated parts and the decoder compiled when they are next run.

    Any number of rows (though one is a case of its own) and any size shares what is compiled. How
    many parts there are.
    """
    torch._dynamo.config.recompile_limit = VARIANTS
    torch._dynamo.config.accumulated_recompile_limit = 16 * VARIANTS
    shapes.use_duck_shape = False  # a square picture must not become one for squares only
    name = type(denoiser).__name__
    kinds = REGIONS.get(name) or getattr(denoiser, "_repeated_blocks", None) or ()
    parts = [part for part in denoiser.modules() if type(part).__name__ in kinds]
    if not parts:
        log.warning("%s: its repeated parts are not known, so it is not compiled", name)
    for network in (denoiser, decoder):
        network.requires_grad_(False)  # as adapters leave it, and what is compiled looks at that
    for part in (*parts, decoder):
        part.compile(fullgraph=True, dynamic=True, backend=backend)
    return len(parts) + 1


def bare_only(way: Way) -> Way:
    """The way, what is compiled being for forwards that wear no adapters.

    Those of others would have to be compiled for every set, and again for every weight.
    """

    def run(forward: Forward) -> Any:
        if not forward.worn:
            return way(forward)
        with torch.compiler.set_stance("force_eager"):
            return way(forward)

    return run


def seal() -> None:
    """From now on nothing is compiled in this process, but within `unsealed`."""
    torch.compiler.set_stance("eager_on_recompile")


@contextlib.contextmanager
def unsealed(alive: Callable[[], None]) -> Generator[None]:
    """Compile what is met meanwhile; `alive` is called whenever that begins."""
    handler = torch._dynamo.callback_handler
    pulse = handler.register_start_callback(lambda _: alive())
    try:
        with torch.compiler.set_stance("default"):
            yield
    finally:
        handler.remove_start_callback(pulse)


def compiled() -> int:
    """How many graphs this process has compiled."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]
