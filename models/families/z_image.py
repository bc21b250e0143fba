"""Z-Image and Z-Image-Turbo."""

from typing import Any

from diffusers import ZImageImg2ImgPipeline, ZImageInpaintPipeline, ZImagePipeline

from models.checkpoint import Family, Images, Pipelines, Reading, by_class
from models.contract import Job
from models.families import sd3
from models.pixels import whole_cells

READS = 512  # tokens, those of the conversation around the prompt among them
HERE = "HERE"  # stands for a prompt
PIPELINES: Pipelines = {
    "generate": ZImagePipeline,
    "edit": ZImageImg2ImgPipeline,
    "inpaint": ZImageInpaintPipeline,
}


def arguments(pipe: Any, kind: Any, job: Job, images: Images) -> dict[str, Any]:
    """The job in the words of the task's pipeline, whose guidance of 0 is everybody else's 1."""
    said: dict[str, Any] = {
        "negative_prompt": job.negative_prompt,
        "guidance_scale": max(0.0, job.guidance - 1),
        "height": job.height,
        "width": job.width,
        "max_sequence_length": READS,
    }
    if job.task != "generate":
        said |= {"image": images.inputs[0], "strength": job.strength}
    if images.mask is not None:
        said["mask_image"] = whole_cells(images.mask, pipe.vae_scale_factor)
    return said


def reading(pipe: Any) -> Reading:
    """What the pipeline puts before the prompt takes room as well."""
    said = [{"role": "user", "content": HERE}]
    whole = pipe.tokenizer.apply_chat_template(
        said, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    before = pipe.tokenizer(whole.partition(HERE)[0]).input_ids
    return Reading(pipe.tokenizer, READS - len(before))


FAMILY = Family(
    pipelines=by_class(PIPELINES),
    arguments=arguments,
    unpack=sd3.unpack,
    reading=reading,
)
load = FAMILY.load
