"""What diffusers' own pipelines paint for a job, each told in its own words; nothing is ours."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image as Pillow

from models.contract import Image, Job

WIDTH, HEIGHT = 96, 64
FAMILY_OF = {
    "sd": "sd",
    "pix2pix": "sd",
    "sdxl": "sdxl",
    "sdxl_inpaint": "sdxl",
    "sd3": "sd3",
    "sd3_without_t5": "sd3",
    "flux": "flux",
    "flux_schnell": "flux",
    "flux_fill": "flux",
    "flux_kontext": "flux",
    "flux2": "flux2",
    "flux2_klein": "flux2",
    "flux2_klein_base": "flux2",
    "qwen_image": "qwen-image",
    "qwen_edit": "qwen-image",
    "qwen_edit_plus": "qwen-image",
    "z_image": "z-image",
}

# -- What each stock pipeline is told for the same wish, written from its documentation -----------

Said = dict[str, Any]


def cfg(job: Job) -> Said:
    return {"guidance_scale": job.guidance, "negative_prompt": job.negative_prompt}


def true_cfg(job: Job) -> Said:
    return {"true_cfg_scale": job.guidance, "negative_prompt": job.negative_prompt}


def embedded(job: Job) -> Said:
    return {"guidance_scale": job.guidance}


def less_one(job: Job) -> Said:
    return {"guidance_scale": job.guidance - 1, "negative_prompt": job.negative_prompt}


def sized(job: Job) -> Said:
    return {"width": job.width, "height": job.height}


def shown(job: Job) -> Said:
    return {"image": picture(1)}


def changed(job: Job) -> Said:
    return {"image": picture(1), "strength": job.strength}


def masked(job: Job) -> Said:
    return {"image": picture(1), "strength": job.strength, "mask_image": mask()}


def as_asked(job: Job) -> Said:
    """Kontext paints a size of its own unless it is told not to."""
    return {"max_area": job.width * job.height, "_auto_resize": False}


def briefly(job: Job) -> Said:
    return {"max_sequence_length": 256}


Way = tuple[str, Sequence[Callable[[Job], Said]]]
STOCK: dict[str, dict[str, Way]] = {
    "sd": {
        "generate": ("StableDiffusionPipeline", (cfg, sized)),
        "edit": ("StableDiffusionImg2ImgPipeline", (cfg, changed)),
        "inpaint": ("StableDiffusionInpaintPipeline", (cfg, sized, masked)),
    },
    "pix2pix": {
        "edit": ("StableDiffusionInstructPix2PixPipeline", (cfg, shown)),
        "inpaint": ("StableDiffusionInstructPix2PixPipeline", (cfg, shown)),
    },
    "sdxl": {
        "generate": ("StableDiffusionXLPipeline", (cfg, sized)),
        "edit": ("StableDiffusionXLImg2ImgPipeline", (cfg, changed)),
        "inpaint": ("StableDiffusionXLInpaintPipeline", (cfg, sized, masked)),
    },
    "sdxl_inpaint": {"inpaint": ("StableDiffusionXLInpaintPipeline", (cfg, sized, masked))},
    "sd3": {
        "generate": ("StableDiffusion3Pipeline", (cfg, sized)),
        "edit": ("StableDiffusion3Img2ImgPipeline", (cfg, sized, changed)),
        "inpaint": ("StableDiffusion3InpaintPipeline", (cfg, sized, masked)),
    },
    "sd3_without_t5": {"generate": ("StableDiffusion3Pipeline", (cfg, sized))},
    "flux": {
        "generate": ("FluxPipeline", (embedded, sized)),
        "edit": ("FluxImg2ImgPipeline", (embedded, sized, changed)),
        "inpaint": ("FluxInpaintPipeline", (embedded, sized, masked)),
    },
    "flux_schnell": {
        "generate": ("FluxPipeline", (true_cfg, sized, briefly)),
        "edit": ("FluxImg2ImgPipeline", (true_cfg, sized, changed, briefly)),
        "inpaint": ("FluxInpaintPipeline", (true_cfg, sized, masked, briefly)),
    },
    "flux_fill": {"inpaint": ("FluxFillPipeline", (embedded, sized, masked))},
    "flux_kontext": {
        "generate": ("FluxKontextPipeline", (embedded, sized, as_asked)),
        "edit": ("FluxKontextPipeline", (embedded, sized, shown, as_asked)),
        "inpaint": ("FluxKontextInpaintPipeline", (embedded, sized, masked, as_asked)),
    },
    "flux2": {
        "generate": ("Flux2Pipeline", (embedded, sized)),
        "edit": ("Flux2Pipeline", (embedded, sized, shown)),
        "inpaint": ("Flux2Pipeline", (embedded, sized, shown)),
    },
    "flux2_klein": {
        "generate": ("Flux2KleinPipeline", (embedded, sized)),
        "edit": ("Flux2KleinPipeline", (embedded, sized, shown)),
        "inpaint": ("Flux2KleinInpaintPipeline", (embedded, sized, masked)),
    },
    "flux2_klein_base": {"generate": ("Flux2KleinPipeline", (embedded, sized))},
    "qwen_image": {
        "generate": ("QwenImagePipeline", (true_cfg, sized)),
        "edit": ("QwenImageImg2ImgPipeline", (true_cfg, sized, changed)),
        "inpaint": ("QwenImageInpaintPipeline", (true_cfg, sized, masked)),
    },
    "qwen_edit": {"edit": ("QwenImageEditPipeline", (true_cfg, sized, shown))},
    "qwen_edit_plus": {"edit": ("QwenImageEditPlusPipeline", (true_cfg, sized, shown))},
    "z_image": {
        "generate": ("ZImagePipeline", (less_one, sized)),
        "edit": ("ZImageImg2ImgPipeline", (less_one, sized, changed)),
        "inpaint": ("ZImageInpaintPipeline", (less_one, sized, masked)),
    },
}
CASES = [(name, task) for name, tasks in STOCK.items() for task in tasks]


def job(name: str, task: str, **changes: object) -> Job:
    defaults: dict[str, object] = {
        "id": name,
        "model": "tiny",
        "task": task,
        "prompt": f"a {name}",
        "negative_prompt": "grey",
        "width": WIDTH,
        "height": HEIGHT,
        "steps": 4,
        "guidance": 4.0,
        "strength": 1.0 if task == "inpaint" else 0.8,
        "seeds": (7,),
        "inputs": 0 if task == "generate" else 1,
        "masked": task == "inpaint",
    }
    return Job(**(defaults | changes))


@cache
def picture(seed: int) -> Pillow.Image:
    rows = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Pillow.fromarray(rows).resize((WIDTH, HEIGHT), Pillow.Resampling.BICUBIC)


def mask() -> Pillow.Image:
    drawn = Pillow.new("L", (WIDTH, HEIGHT), 0)
    drawn.paste(255, (16, 16, 64, 48))
    return drawn


def raw(image: Pillow.Image) -> Image:
    return Image(image.width, image.height, image.mode, image.tobytes())


def stock(folder: Path, way: Way, asked: Job) -> np.ndarray:
    """What diffusers itself loads and paints: nothing of ours in it."""
    kind, says = way
    lacking = (
        {} if "sd3_without" not in folder.name else {"text_encoder_3": None, "tokenizer_3": None}
    )
    pipe = getattr(diffusers, kind).from_pretrained(folder, **lacking)
    pipe.set_progress_bar_config(disable=True)
    said: Said = {}
    for say in says:
        said |= say(asked)
    return np.asarray(
        pipe(
            prompt=asked.prompt,
            num_inference_steps=asked.steps,
            generator=torch.Generator("cpu").manual_seed(asked.seeds[0]),
            **said,
        ).images[0]
    )
