"""A transformer's large layers in 8 bits: half the memory, faster, and not the same numbers.

Each row of a weight has its factor, and so has each token that it is multiplied with, found anew in
each forward (e4m3; the arithmetic is diffusers' own). Which layers: `weights.is_large`.
"""

from typing import Any

import torch
from diffusers.quantizers.bfl.utils import BFLFP8RLinear, quantize_fp8r

from models import weights
from models.canvas import Unloadable
from models.contract import ModelSpec
from models.offload import HOST

LABEL = "image: painted with 8-bit weights (fp8)"
LEAST = (8, 9)  # capability of the oldest GPUs that multiply in 8 bits
TOLERANCE = 0.1  # of the outcome's size: 8 bits are 0.04 off, and what is computed wrongly is 1


def reduce(pipe: Any, spec: ModelSpec, target: torch.device) -> None:
    """Put the large layers in 8 bits, if the model's table says so, one by one on the device.

    Raises:
        Unloadable: the device cannot multiply in 8 bits, or there is nothing to put so.
    """
    if not spec.tuning.fp8:
        return
    refuse(target)
    denoiser = pipe.components.get("transformer")
    if denoiser is None or not in_eight_bits(denoiser, target):
        raise Unloadable("fp8: this model has no transformer with layers large enough for it")
    if spec.offload == "all":
        denoiser.to(HOST)


def refuse(target: torch.device) -> None:
    """
    Raises:
        Unloadable: the device does not multiply in 8 bits, or comes to wrong results.
    """
    able = target.type == "cuda" and torch.cuda.get_device_capability(target) >= LEAST
    if not able:
        raise Unloadable(
            f"fp8: {target.type} cannot; it takes an NVIDIA GPU of compute capability 8.9 or later"
        )
    error = off(target)
    if not error <= TOLERANCE:  # NaN is not
        raise Unloadable(f"fp8: the GPU's 8-bit products are {error:.2g} off; the driver is broken")


def in_eight_bits(denoiser: torch.nn.Module, target: torch.device) -> int:
    """Replace a network's large layers by such in 8 bits on the device; how many there were."""
    found = [
        (name, layer)
        for name, layer in denoiser.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and weights.is_large(f"{name}.weight", tuple(layer.weight.shape))
    ]
    for name, layer in found:
        denoiser.set_submodule(name, reduced(layer, target))
    return len(found)


def reduced(layer: torch.nn.Linear, target: torch.device) -> BFLFP8RLinear:
    """The layer in 8 bits, on the device; it computes in the precision that it had."""
    weight, scale = quantize_fp8r(layer.weight.detach().to(target))
    biased = layer.bias is not None
    sides, dtype = (layer.in_features, layer.out_features), layer.weight.dtype
    small = BFLFP8RLinear(*sides, biased, compute_dtype=dtype, device="meta")
    small.weight = torch.nn.Parameter(weight, requires_grad=False)
    small.weight_scale = scale
    if biased:
        small.bias = torch.nn.Parameter(layer.bias.detach().to(target), requires_grad=False)
    return small.eval()


def off(target: torch.device) -> float:
    """How much a layer in 8 bits differs from the plain one, relative to what that gives."""
    noise = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(256, 128, bias=False)
    layer.weight.data = torch.randn(128, 256, generator=noise)
    shown = torch.randn(64, 256, generator=noise)
    with torch.no_grad():
        try:
            seen = reduced(layer, target)(shown.to(target)).float().cpu()
        except RuntimeError:
            return float("inf")
        expected = layer(shown)
    return float((seen - expected).norm() / expected.norm())
