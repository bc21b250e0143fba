"""Stable Diffusion 1.x and 2.x: text to image, image to image, inpainting with 4 or 9 channels,
and InstructPix2Pix, which edits by instruction."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
)

from models.checkpoint import Family, Images, Pipelines, Reading, by_class
from models.contract import Job, Task
from models.pixels import whole_cells

MARKS = 2  # tokens that CLIP puts around a text
INPAINTING_CHANNELS = 9  # such a UNet is shown the mask and the masked image, and needs them
IMAGE_GUIDANCE = 1.5  # how closely InstructPix2Pix keeps to the image; its authors' default

SCHEDULERS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (EulerDiscreteScheduler, {"use_karras_sigmas": False}),
    "euler_karras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),
}
PIPELINES: Pipelines = {
    "generate": StableDiffusionPipeline,
    "edit": StableDiffusionImg2ImgPipeline,
    "inpaint": StableDiffusionInpaintPipeline,
}
PIX2PIX: Pipelines = {
    "edit": StableDiffusionInstructPix2PixPipeline,
    "inpaint": StableDiffusionInstructPix2PixPipeline,
}


def arguments(pipe: Any, kind: Any, job: Job, images: Images) -> dict[str, Any]:
    """The job in the words of the task's pipeline. An edit has the size of its image."""
    common: dict[str, Any] = {
        "negative_prompt": job.negative_prompt,
        "guidance_scale": job.guidance,
    }
    size = {"height": job.height, "width": job.width}
    if job.task == "generate":
        return common | size
    common["image"] = images.inputs[0]
    if kind is StableDiffusionInstructPix2PixPipeline:
        return common | {"image_guidance_scale": IMAGE_GUIDANCE}
    common["strength"] = job.strength
    if job.task == "edit":
        return common
    assert images.mask is not None
    return common | size | {"mask_image": whole_cells(images.mask, pipe.vae_scale_factor)}


def tasks(pipe: Any, pipelines: Pipelines) -> tuple[Task, ...]:
    """Some UNets only inpaint, whatever their folder says."""
    return ("inpaint",) if only_inpaints(pipe) else tuple(pipelines)


def only_inpaints(pipe: Any) -> bool:
    return pipe.unet.config.in_channels == INPAINTING_CHANNELS


def unpack(pipe: Any, latents: torch.Tensor, job: Job) -> torch.Tensor:
    return latents / pipe.vae.config.scaling_factor


def reading(pipe: Any) -> Reading:
    """CLIP reads 77 tokens."""
    return Reading(pipe.tokenizer, pipe.tokenizer.model_max_length - MARKS)


def prepare(pipe: Any) -> None:
    """Convolutions are faster channels last, on CPUs as on GPUs."""
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)


FAMILY = Family(
    pipelines=by_class(PIPELINES, PIX2PIX),
    arguments=arguments,
    unpack=unpack,
    reading=reading,
    tasks=tasks,
    schedulers=SCHEDULERS,
    prepare=prepare,
)
load = FAMILY.load
