"""Which of torch's kernels for attention is tried first.

torch prefers FlashAttention 2 everywhere; on Hopper, cuDNN's own kernel does the same work in about
half the time. Knows nothing of models.
"""

import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

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


class Trial(NamedTuple):
    """Attention as a network might ask for it."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int  # of a head
    masked: bool = False  # whether some keys are not to be seen


# Of a FLUX block, of an SDXL block, of its sight of the prompt, an odd one, and of Z-Image's blocks
# when prompts of several lengths share a forward.
TRIED = (
    Trial(1, 24, 1024, 1024, 128),
    Trial(2, 10, 1024, 1024, 64),
    Trial(2, 10, 4096, 77, 64),
    Trial(3, 5, 333, 333, 64),
    Trial(2, 30, 333, 333, 128, masked=True),
)
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
    for trial in TRIED:
        # It need not take masks, for then the next does, but what it takes is to be right.
        kernels = CUDNN_FIRST if trial.masked else CUDNN_FIRST[:1]
        error = off(kernels, trial, device)
        if not error <= TOLERANCE:  # NaN is not
            log.warning("cuDNN's attention is off by %g in %s, and is not used", error, trial)
            return None
    return CUDNN_FIRST


@torch.no_grad()
def off(kernels: Sequence[SDPBackend], trial: Trial, device: torch.device) -> float:
    """The largest difference of the output of the first of the kernels that takes the trial from
    the plain arithmetic's, for inputs of unit variance; infinite if none runs."""
    dice = torch.Generator().manual_seed(0)
    kind = torch.bfloat16
    query, key, value = (
        torch.randn(trial.batch, trial.heads, side, trial.width, generator=dice).to(device, kind)
        for side in (trial.queries, trial.keys, trial.keys)
    )
    seen = torch.arange(trial.keys) < trial.keys - torch.arange(trial.batch)[:, None] * 30
    mask = seen[:, None, None].to(device) if trial.masked else None
    with sdpa_kernel(SDPBackend.MATH):
        exact = scaled_dot_product_attention(query.float(), key.float(), value.float(), mask)
    try:
        with sdpa_kernel(list(kernels), set_priority=True):
            found = scaled_dot_product_attention(query, key, value, mask)
    except RuntimeError as error:  # "No available kernel"
        log.debug("%s: %s", kernels[0], error)
        return float("inf")
    return (found.float() - exact).abs().max().item()
