"""Where a checkpoint's parts lie: on the device, or in the machine's memory until they work.

What is offloaded travels to the device layer by layer, each time it is called. diffusers' offload
of whole models is not used: it would move the denoiser out while another canvas encodes its prompt.
"""

from typing import Any

import torch
from diffusers.hooks import apply_group_offloading

from models.contract import Offload
from models.shell import denoiser_name

HOST = torch.device("cpu")


def place(pipe: Any, offload: Offload, device: torch.device) -> None:
    """Bring every part to where it belongs.

    Args:
        offload: "text" keeps the text encoders in the machine's memory, "all" the denoiser too.
    """
    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        if name.startswith("text_encoder") and offload != "none":
            travel(part, device, offload_type="leaf_level")
        elif name == denoiser_name(pipe) and offload == "all":
            travel(part, device, offload_type="block_level", num_blocks_per_group=1)
        else:
            part.to(device)


def travel(part: torch.nn.Module, device: torch.device, **how: Any) -> None:
    """Have a part's weights come to the device when they are needed, ahead of time on a GPU."""
    stream = device.type == "cuda"
    apply_group_offloading(part, device, HOST, use_stream=stream, **how)
