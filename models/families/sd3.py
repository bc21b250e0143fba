"""Stable Diffusion 3 and 3.5: a transformer that reads through two CLIPs and, if there, T5."""

from typing import Any

import torch
from diffusers import (
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
)

from models.checkpoint import Family, Images, Pipelines, Reading, by_class
from models.contract import Job
from models.families import sd
from models.pixels import whole_cells

READS = 256  # tokens of T5
PIPELINES: Pipelines = {
    "generate": StableDiffusion3Pipeline,
    "edit": StableDiffusion3Img2ImgPipeline,
    "inpaint": StableDiffusion3InpaintPipeline,
}


def arguments(pipe: Any, kind: Any, job: Job, images: Images) -> dict[str, Any]:
    """The job in the words of the task's pipeline."""
    said: dict[str, Any] = {
        "negative_prompt": job.negative_prompt,
        "guidance_scale": job.guidance,
        "height": job.height,
        "width": job.width,
        "max_sequence_length": READS,
    }
    if job.task != "generate":
        said |= {"image": images.inputs[0], "strength": job.strength}
    if images.mask is not None:
        said["mask_image"] = whole_cells(images.mask, pipe.vae_scale_factor)
    return said


def unpack(pipe: Any, latents: torch.Tensor, job: Job) -> torch.Tensor:
    return latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor


def reading(pipe: Any) -> Reading:
    """T5 may be left out, which saves most of the memory."""
    return sd.reading(pipe) if pipe.text_encoder_3 is None else Reading(pipe.tokenizer_3, READS - 1)


FAMILY = Family(
    pipelines=by_class(PIPELINES),
    arguments=arguments,
    unpack=unpack,
    reading=reading,
    optional=("text_encoder_3", "tokenizer_3"),
)
load = FAMILY.load
