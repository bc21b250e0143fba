"""Qwen-Image, and Qwen-Image-Edit and Edit-Plus, which edit by instruction."""

import sys
from typing import Any

import torch
from diffusers import (
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageImg2ImgPipeline,
    QwenImageInpaintPipeline,
    QwenImagePipeline,
)

from models.checkpoint import Family, Images, Pipelines, Reading, by_class
from models.contract import Job
from models.pixels import whole_cells

READS = 512  # tokens
PIPELINES: Pipelines = {
    "generate": QwenImagePipeline,
    "edit": QwenImageImg2ImgPipeline,
    "inpaint": QwenImageInpaintPipeline,
}
EDIT: Pipelines = {"edit": QwenImageEditPipeline, "inpaint": QwenImageEditPipeline}
EDIT_PLUS: Pipelines = {"edit": QwenImageEditPlusPipeline, "inpaint": QwenImageEditPlusPipeline}


def arguments(pipe: Any, kind: Any, job: Job, images: Images) -> dict[str, Any]:
    """The job in the words of the task's pipeline. Edit models know no mask that keeps to a size:
    they paint the whole, and what is outside is pasted back."""
    said: dict[str, Any] = {
        "true_cfg_scale": job.guidance,
        "negative_prompt": job.negative_prompt or " ",  # none at all would turn guidance off
        "height": job.height,
        "width": job.width,
        "max_sequence_length": READS,
    }
    if kind is QwenImageEditPlusPipeline:
        return said | {"image": list(images.inputs)}
    if images.inputs:
        said["image"] = images.inputs[0]
    if kind is QwenImageEditPipeline:
        return said
    if job.task != "generate":
        said["strength"] = job.strength
    if images.mask is not None:
        said["mask_image"] = whole_cells(images.mask, pipe.vae_scale_factor)
    return said


def reading(pipe: Any) -> Reading:
    """Edit models read all of it; the others count from where the prompt ought to start."""
    if isinstance(pipe, QwenImageEditPipeline | QwenImageEditPlusPipeline):
        return Reading(pipe.tokenizer, sys.maxsize)
    before = pipe.prompt_template_encode.partition("{}")[0]
    late = len(pipe.tokenizer(before).input_ids) - pipe.prompt_template_encode_start_idx
    return Reading(pipe.tokenizer, READS - late)


def unpack(pipe: Any, latents: torch.Tensor, job: Job) -> torch.Tensor:
    """Each token is a square of two by two latents, normalised per channel; a video of 1 frame."""
    frames = pipe._unpack_latents(latents[None], job.height, job.width, pipe.vae_scale_factor)[0]
    config = pipe.vae.config
    mean, spread = (
        torch.tensor(values).to(frames).view(-1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    return frames[:, 0] * spread + mean


FAMILY = Family(
    pipelines=by_class(PIPELINES, EDIT, EDIT_PLUS),
    arguments=arguments,
    unpack=unpack,
    reading=reading,
)
load = FAMILY.load
