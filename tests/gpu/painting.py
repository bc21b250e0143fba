"""Tiny checkpoints on the device that is tried, and what is asked of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
from models import device, families
from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Failed, Finished, Image, Job, ModelSpec
from models.studio import Studio

DEVICE = os.environ.get("LIMNER_TEST_DEVICE", "cuda")
ON_THE_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no CUDA device"
    ),
]
faulty = pytest.mark.skipif(DEVICE != "cuda", reason="of CUDA devices alone")
FAMILY_OF = {
    "sd": "sd",
    "sd_inpaint": "sd",
    "pix2pix": "sd",
    "sdxl": "sdxl",
    "sd3": "sd3",
    "flux": "flux",
    "flux_schnell": "flux",
    "flux_fill": "flux",
    "flux_kontext": "flux",
    "flux2": "flux2",
    "flux2_klein": "flux2",
    "qwen_image": "qwen-image",
    "z_image": "z-image",
}
WIDTH, HEIGHT = 128, 64


def load(spec: ModelSpec) -> Checkpoint:
    model = families.loader(spec.family)(spec, DEVICE)
    assert isinstance(model, Checkpoint)
    return model


def job(name: str, task: str, **changes: object) -> Job:
    told: dict[str, object] = {
        "id": name,
        "model": "tiny",
        "task": task,
        "prompt": "an owl",
        "width": WIDTH,
        "height": HEIGHT,
        "steps": 4,
        "guidance": 3.0,
        "strength": 1.0,
        "seeds": (7,),
        "inputs": 0 if task == "generate" else 1,
        "masked": task == "inpaint",
    }
    return Job(**(told | changes))


def run(model: Checkpoint, *jobs: Job, cancel: str = "") -> list[AnyEvent]:
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    for kind in ("forward", "decode"):
        studio.cap("tiny", kind, 8)
    base = Image(WIDTH, HEIGHT, "RGB", bytes(range(256)) * (WIDTH * HEIGHT * 3 // 256))
    half = WIDTH * HEIGHT // 2
    mask = Image(WIDTH, HEIGHT, "L", bytes(half) + b"\xff" * half)
    for asked in jobs:
        studio.start(model, asked, 0, [base][: asked.inputs], mask if asked.masked else None)
    studio.tick()
    if cancel:
        studio.cancel(cancel, 0)
    while len(studio):
        studio.tick()
    return events


def pixels(events: list[AnyEvent], name: str) -> np.ndarray:
    (end,) = [e for e in events if isinstance(e, Finished | Failed) and e.job == name]
    assert isinstance(end, Finished), end
    return np.frombuffer(end.image.pixels, np.uint8).astype(int)


@contextmanager
def room(more: int) -> Iterator[None]:
    """Meanwhile the process may take so many bytes of a GPU beyond what it has."""
    device.give_back()
    total = device.memory(torch.device(DEVICE)).total
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
