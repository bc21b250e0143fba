"""Linear layers in float32 by oneDNN, on the CPUs on which it is the faster of torch's two ways.

torch asks MKL, which has AVX-512 for Intel's processors alone: on AMD's it takes twice as long and
more. Numbers differ in their last digits. The call is one that torch's own compiler makes, under no
public name.
"""

import functools
import platform
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import onednn
from models.merge import Way

LEAST = 1 << 21  # multiplications: of fewer, to ask oneDNN takes longer than it saves

_asked: ContextVar[bool] = ContextVar("_asked", default=False)


class OneDnnLinear(nn.Linear):
    """A linear layer that asks oneDNN wherever `by_onednn` says so."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  torch's name
        if torch.compiler.is_compiling():  # by whom it is said is not seen there
            return super().forward(input)
        if not _asked.get() or input.numel() * self.out_features < LEAST:
            return super().forward(input)
        # nothing follows it: "none", with no numbers and no name
        call: Any = torch.ops.mkldnn._linear_pointwise
        return call(input, self.weight, self.bias, "none", [], "")


def by_onednn(network: nn.Module, way: Way) -> Way:
    """The way, with the network's linear layers by oneDNN where that is faster."""
    if not usable():
        return way
    found = [part for part in network.modules() if fits(part)]
    if not found:
        return way
    for linear in found:
        linear.__class__ = OneDnnLinear
    return onednn.told(_asked, True, way)


def usable() -> bool:
    """Whether this processor is of the kind on which it was measured."""
    return onednn.usable() and maker() == "AuthenticAMD"


@functools.cache
def maker() -> str:
    """Whose processor this is, as it says of itself; empty where it does not."""
    told = Path("/proc/cpuinfo")
    text = told.read_text(encoding="utf-8") if told.exists() else platform.processor()
    return next((name for name in ("AuthenticAMD", "GenuineIntel") if name in text), "")


def fits(part: nn.Module) -> bool:
    """Whether it is a linear layer as torch has it, of which the above is true."""
    return type(part) in (nn.Linear, OneDnnLinear) and part.weight.dtype == torch.float32
