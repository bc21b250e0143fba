"""Stable Diffusion XL and its turbo, lightning and LCM descendants; the refiner is not used."""

from typing import Any

import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from models.checkpoint import Family, Pipelines, by_class
from models.families import sd

PIPELINES: Pipelines = {
    "generate": StableDiffusionXLPipeline,
    "edit": StableDiffusionXLImg2ImgPipeline,
    "inpaint": StableDiffusionXLInpaintPipeline,
}


def prepare(pipe: Any) -> None:
    """As for its ancestors; and a VAE that overflows in half precision is kept in full.

    The pipelines would switch the shared weights to and fro, under other canvases' feet.
    """
    sd.prepare(pipe)
    if pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)


FAMILY = Family(
    pipelines=by_class(PIPELINES),
    arguments=sd.arguments,
    unpack=sd.unpack,
    reading=sd.reading,
    tasks=sd.tasks,
    schedulers=sd.SCHEDULERS,
    prepare=prepare,
)
load = FAMILY.load
