"""Which of torch's kernels for attention is tried first.

torch prefers FlashAttention 2 everywhere; on Hopper, cuDNN's own kernel does the same work in about
half the time. Knows nothing of models.
"""

import functools
import logging
from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from models.merge import Forward, Way

log = logging.getLogger(__name__)

HOPPER = (9, 0)
CUDNN_FIRST = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)
# Batch, heads, tokens and width of a head: of a FLUX block, of an SDXL block, and an odd one.
TRIED = ((1, 24, 1024, 128), (2, 10, 1024, 64), (3, 5, 333, 64))
TOLERANCE = 0.02  # a few units in the last place of bfloat16, of outputs around 1


def fastest_first(device: torch.device, way: Way) -> Way:
    """The way, with this device's kernels in the order of their speed."""
    order = order_for(device)
    if order is None:
        return way

    def ordered(forward: Forward) -> object:
        with sdpa_kernel(list(order), set_priority=True):
            return way(forward)

    return ordered


@functools.cache
def order_for(device: torch.device) -> Sequence[SDPBackend] | None:
    """The order in which kernels are tried; None where torch's own is the best that is known."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != HOPPER:
        return None
    worst = max(off(SDPBackend.CUDNN_ATTENTION, shape, device) for shape in TRIED)
    if not worst <= TOLERANCE:
        log.warning("cuDNN's attention is off by %g on this device, and is not used", worst)
        return None
    return CUDNN_FIRST


@torch.no_grad()
def off(kernel: SDPBackend, shape: tuple[int, ...], device: torch.device) -> float:
    """The largest difference of a kernel's output from the plain arithmetic's, for inputs of unit
    variance; infinite if the kernel does not run."""
    dice = torch.Generator().manual_seed(0)
    kind = torch.bfloat16
    query, key, value = (torch.randn(shape, generator=dice).to(device, kind) for _ in range(3))
    with sdpa_kernel(SDPBackend.MATH):
        exact = scaled_dot_product_attention(query.float(), key.float(), value.float())
    try:
        with sdpa_kernel(kernel):
            found = scaled_dot_product_attention(query, key, value)
    except RuntimeError as error:  # "No available kernel"
        log.debug("%s: %s", kernel, error)
        return float("inf")
    return (found.float() - exact).abs().max().item()
