"""Which device a worker paints on, with what numbers, and what it has to say about itself."""

import contextlib
import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.canvas import DeviceLost, OutOfMemory, Unloadable
from models.contract import Dtype


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the device: of the GPU, or of the machine."""

    total: int
    free: int


def choose(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`; the only GPU that a worker sees is 0.

    Raises:
        Unloadable: a CUDA device was asked for and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise Unloadable(f"{wanted} was asked for, but torch {torch.__version__} sees no GPU")
    return torch.device("cuda", 0)


def dtype_for(wanted: Dtype, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU that has it, float16 on an older one, float32 on a CPU."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if device.type != "cuda":
        return torch.float32
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


@contextlib.contextmanager
def named_faults() -> Iterator[None]:
    """Give torch's errors the names that the studio knows.

    Raises:
        OutOfMemory: there was no room for this much at once.
        DeviceLost: a kernel failed in a way that leaves the process no device.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from None
    except torch.AcceleratorError as error:
        raise DeviceLost(str(error)) from None


def settle(device: torch.device) -> None:
    """Wait until a GPU has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def size(parts: Iterable[Any], device: torch.device) -> int:
    """Bytes that the weights and buffers of those parts that have any take on the device."""
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    there = [tensor for tensor in tensors if tensor.device.type == device.type]
    return sum(tensor.numel() * tensor.element_size() for tensor in there)


def channels_last(network: torch.nn.Module) -> None:
    """Lay its convolutions of pictures out with the channels of a pixel side by side, as tensor
    cores want them, and a CPU on larger pictures. The same numbers at other addresses."""
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.weight.data = part.weight.to(memory_format=torch.channels_last)


def give_back() -> None:
    """Return memory that nothing uses any more to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def name(device: torch.device) -> str:
    """The hardware, in its maker's words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}"


def memory(device: torch.device) -> Memory:
    """How much memory the device has, and how much of it is free."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Memory(total, free)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return Memory(facts["MemTotal"], facts["MemAvailable"])
