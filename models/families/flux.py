"""FLUX.1: schnell and dev, Fill for inpainting, Kontext for edits by instruction."""

from typing import Any

import torch
from diffusers import (
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextInpaintPipeline,
    FluxKontextPipeline,
    FluxPipeline,
)

from models.checkpoint import Family, Images, Pipelines, Reading, by_class
from models.contract import Job
from models.pixels import side_by_side, whole_cells

READS = 512  # tokens of T5
READS_DISTILLED = 256  # tokens that schnell was trained with
PIPELINES: Pipelines = {
    "generate": FluxPipeline,
    "edit": FluxImg2ImgPipeline,
    "inpaint": FluxInpaintPipeline,
}
KONTEXT: Pipelines = {
    "generate": FluxKontextPipeline,
    "edit": FluxKontextPipeline,
    "inpaint": FluxKontextInpaintPipeline,
}
FILL: Pipelines = {"inpaint": FluxFillPipeline}


def arguments(pipe: Any, kind: Any, job: Job, images: Images) -> dict[str, Any]:
    """The job in the words of the task's pipeline."""
    said: dict[str, Any] = {
        "guidance_scale": job.guidance,
        "height": job.height,
        "width": job.width,
        "max_sequence_length": reads(pipe),
    }
    if negates(pipe, job.guidance) and kind is not FluxFillPipeline:
        said |= {"true_cfg_scale": job.guidance, "negative_prompt": job.negative_prompt}
    if kind in KONTEXT.values():  # or it would choose a size of its own
        said |= {"max_area": job.width * job.height, "_auto_resize": False}
    if images.inputs:
        said |= shown(kind, images)
    if job.task != "generate" and kind is not FluxKontextPipeline:
        said["strength"] = job.strength
    if images.mask is not None:
        exact = kind is FluxFillPipeline  # which is shown the mask in full
        said["mask_image"] = (
            images.mask if exact else whole_cells(images.mask, pipe.vae_scale_factor)
        )
    return said


def shown(kind: Any, images: Images) -> dict[str, Any]:
    """The input images; Kontext takes several as one, and under a mask the others by themselves."""
    base, *others = images.inputs
    if kind is FluxKontextPipeline:
        return {"image": side_by_side(images.inputs)}
    if kind is FluxKontextInpaintPipeline and others:
        return {"image": base, "image_reference": side_by_side(others)}
    return {"image": base}


def embeds(pipe: Any) -> bool:
    """Whether guidance is an input of the network, as in dev, and a second prediction is not
    needed."""
    return bool(pipe.transformer.config.guidance_embeds)


def negates(pipe: Any, guidance: float) -> bool:
    return guidance > 1 and not embeds(pipe)


def reads(pipe: Any) -> int:
    """Tokens of T5, to which every prompt is padded; no more than its tokenizer was made for."""
    return min(READS if embeds(pipe) else READS_DISTILLED, pipe.tokenizer_2.model_max_length)


def reading(pipe: Any) -> Reading:
    return Reading(pipe.tokenizer_2, reads(pipe) - 1)


def unpack(pipe: Any, latents: torch.Tensor, job: Job) -> torch.Tensor:
    """Each token is a square of two by two latents."""
    square = pipe._unpack_latents(latents[None], job.height, job.width, pipe.vae_scale_factor)[0]
    return square / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor


FAMILY = Family(
    pipelines=by_class(PIPELINES, KONTEXT, FILL),
    arguments=arguments,
    unpack=unpack,
    reading=reading,
    negates=negates,
)
load = FAMILY.load
