"""Convolutions whose weights are kept a second time, in the order in which a CPU multiplies them.

oneDNN brings weights into that order at every call, which takes 4 to 12 % of a small network's
forward. Another of its kernels may come to be taken for it: numbers then differ in their last
digits, those of the shipped models on some processors only. The calls are those that torch's own
compiler makes, under no public name.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import nn

from models import onednn
from models.merge import Way

MOST = 64 << 20  # bytes of convolutions: in larger networks their order costs less than their room
LEAST = 2  # rows: a small single one is quicker in torch's own kernel, which wants no order

Packs: TypeAlias = Mapping[nn.Conv2d, torch.Tensor]

_packs: ContextVar[Packs] = ContextVar("_packs", default=MappingProxyType({}))


class PackedConv2d(nn.Conv2d):
    """A convolution of (n, c, h, w) that uses its packed weights wherever `with_packs` says so."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  torch's name
        if torch.compiler.is_compiling():  # whose own kernels come instead
            return super().forward(input)
        packed = _packs.get().get(self)
        if packed is None or input.ndim != 4 or len(input) < LEAST:
            return super().forward(input)
        where = (self.padding, self.stride, self.dilation, self.groups)
        # nothing follows it: "none", with no numbers and no name
        call: Any = torch.ops.mkldnn._convolution_pointwise
        return call(input, packed, self.bias, *where, "none", [], "")


def with_packs(network: nn.Module, way: Way) -> Way:
    """The way, with packed convolutions in the network if it is small enough."""
    if not onednn.usable():
        return way
    packs = {conv: packed(conv) for conv in packable(network)}
    if not packs:
        return way
    for conv in packs:
        conv.__class__ = PackedConv2d
    return onednn.told(_packs, packs, way)


def packable(network: nn.Module) -> list[nn.Conv2d]:
    """A network's convolutions of pictures, none if they are too large together."""
    found = [part for part in network.modules() if isinstance(part, nn.Conv2d) and fits(part)]
    return found if sum(conv.weight.nbytes for conv in found) <= MOST else []


def fits(conv: nn.Conv2d) -> bool:
    """Whether it is of the common kind, of which the above is true."""
    return (
        type(conv) in (nn.Conv2d, PackedConv2d)
        and conv.weight.dtype == torch.float32  # in bfloat16 not every processor can
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def packed(conv: nn.Conv2d) -> torch.Tensor:
    """Its weights, in an order that only oneDNN knows."""
    where = (conv.padding, conv.stride, conv.dilation, conv.groups)
    call: Any = torch.ops.mkldnn._reorder_convolution_weight
    return call(conv.weight.detach(), *where, None)
