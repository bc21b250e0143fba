"""FLUX.2: dev and klein. Text to image and edits by instruction, from one or several images."""

from typing import Any

import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import format_input

from models.checkpoint import Family, Images, Pipelines, Reading, by_class
from models.contract import Job
from models.pixels import side_by_side, whole_cells

READS = 512  # tokens, those of the conversation around the prompt among them
HERE = "HERE"  # stands for a prompt
DEV: Pipelines = {"generate": Flux2Pipeline, "edit": Flux2Pipeline, "inpaint": Flux2Pipeline}
KLEIN: Pipelines = {
    "generate": Flux2KleinPipeline,
    "edit": Flux2KleinPipeline,
    "inpaint": Flux2KleinInpaintPipeline,
}


def arguments(pipe: Any, kind: Any, job: Job, images: Images) -> dict[str, Any]:
    """The job in the words of its pipeline. dev knows no mask: what is outside is pasted back."""
    said: dict[str, Any] = {
        "guidance_scale": job.guidance,
        "height": job.height,
        "width": job.width,
        "max_sequence_length": READS,
    }
    if kind is Flux2KleinInpaintPipeline:
        assert images.mask is not None
        base, *others = images.inputs
        if others:
            said["image_reference"] = side_by_side(others)
        # It blends whole tokens, which are squares of two by two latents.
        cells = whole_cells(images.mask, 2 * pipe.vae_scale_factor)
        return said | {"image": base, "mask_image": cells, "strength": job.strength}
    return said | ({"image": list(images.inputs)} if images.inputs else {})


def negates(pipe: Any, guidance: float) -> bool:
    """Never: dev's guidance is an input of its network, klein's other prediction is of nothing."""
    return False


def reading(pipe: Any) -> Reading:
    """What the pipelines put before the prompt takes room as well."""
    if isinstance(pipe, Flux2Pipeline):
        tokenizer = pipe.tokenizer.tokenizer  # of a processor, which reads images as well
        (said,) = format_input([HERE], pipe.system_message)
        whole = pipe.tokenizer.apply_chat_template(said, tokenize=False)
    else:
        tokenizer = pipe.tokenizer
        said = [{"role": "user", "content": HERE}]
        whole = tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    return Reading(tokenizer, READS - len(tokenizer(whole.partition(HERE)[0]).input_ids))


def unpack(pipe: Any, latents: torch.Tensor, job: Job) -> torch.Tensor:
    """Tokens by rows; each is a square of two by two latents, normalised per channel."""
    cell = 2 * pipe.vae_scale_factor
    rows = latents.T.reshape(-1, job.height // cell, job.width // cell)[None]
    norm = pipe.vae.bn
    spread = torch.sqrt(norm.running_var + pipe.vae.config.batch_norm_eps).view(1, -1, 1, 1)
    return pipe._unpatchify_latents(rows * spread + norm.running_mean.view(1, -1, 1, 1))[0]


FAMILY = Family(
    pipelines=by_class(DEV, KLEIN),
    arguments=arguments,
    unpack=unpack,
    reading=reading,
    negates=negates,
)
load = FAMILY.load
