"""Every family's networks at their published sizes, with random weights, made on the device.

Nothing is downloaded or read. The denoiser and the VAE are as large as the real ones; the text
encoders are stand-ins of the right width, with one layer (those of which several are read have as
many, thin ones), so text encoding is not measured.
"""

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import diffusers  # nothing of it is imported before it is used, and models.vision comes first
import torch
from accelerate import init_empty_weights

from models.vision import LIBRARY as LIBRARY
from models.checkpoint import Checkpoint, Family
from models.contract import ModelSpec
from models.families import MODULES
from models.preview import Tiny
from models.shell import denoiser_name
from tests.models import tiny

STD = 0.02  # of random weights: outputs of about the size of trained networks'
SMALL_SIDE = 64  # px; of pictures on a CPU

Settings: TypeAlias = dict[str, Any]

VAE: Settings = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
VAE_16: Settings = VAE | {
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SMALL_VAE: Settings = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}
SMALL_QWEN_VAE: Settings = {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
CLIP_L: Settings = {"hidden_size": 768, "projection_dim": 768, "num_hidden_layers": 1}
CLIP_G: Settings = {"hidden_size": 1280, "projection_dim": 1280, "num_hidden_layers": 1}
T5_XXL: Settings = {"hidden_size": 4096, "num_hidden_layers": 1}
QWEN_7B: Settings = {"hidden_size": 3584, "num_attention_heads": 448, "num_hidden_layers": 1}
SDXL_UNET: Settings = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
# Groups as large as this, because few numbers normalised together make much of their rounding.
SMALL_UNET: Settings = {
    "block_out_channels": (32, 64, 64, 64),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
SMALL_SDXL_UNET: Settings = {
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (2, 4, 4),
}
SMALL_MMDIT: Settings = {
    "num_layers": 2,
    "num_attention_heads": 4,
    "caption_projection_dim": 256,
    "pos_embed_max_size": 32,
}
SMALL_Z: Settings = {
    "dim": 256,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
}
SMALL_FLUX: Settings = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2}


def mmdit(layers: int, **more: object) -> Settings:
    """The transformer of SD 3.5, which is as wide as it is deep."""
    return {
        "num_layers": layers,
        "num_attention_heads": layers,
        "caption_projection_dim": 64 * layers,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
        "qk_norm": "rms_norm",
        **more,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """How a checkpoint is usually asked to paint."""

    side: int = 1024  # px; of a native picture
    steps: int
    guidance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture(Usual):
    """One checkpoint's shape.

    Attributes:
        family: as `models.families` calls it.
        start: the tiny pipeline whose tokenizers, scheduler and class are kept.
        denoiser, vae: what differs from the defaults of their classes.
        small_denoiser, small_vae: what is changed again on a machine without a GPU.
        texts: of each text encoder, what makes its output as wide as the real one's.
        parameters: of the denoiser, as published.
    """

    family: str
    start: Callable[[], Any]
    denoiser: Settings
    small_denoiser: Settings
    vae: Settings = field(default_factory=lambda: VAE_16)
    small_vae: Settings = field(default_factory=lambda: SMALL_VAE)
    texts: Mapping[str, Settings]
    parameters: float


# In the order in which their figures are wanted.
ARCHITECTURES: Mapping[str, Architecture] = {
    "flux-dev": Architecture(
        family="flux",
        start=tiny.flux,
        denoiser={"guidance_embeds": True},
        small_denoiser=SMALL_FLUX,
        texts={"text_encoder": CLIP_L, "text_encoder_2": T5_XXL},
        parameters=11.90e9,
        steps=28,
        guidance=3.5,
    ),
    "sdxl": Architecture(
        family="sdxl",
        start=tiny.sdxl,
        denoiser=SDXL_UNET,
        small_denoiser=SMALL_SDXL_UNET,
        vae=VAE,
        texts={"text_encoder": CLIP_L, "text_encoder_2": CLIP_G},
        parameters=2.567e9,
        steps=30,
        guidance=5.0,
    ),
    "sd15": Architecture(
        family="sd",
        start=tiny.sd,
        denoiser={"sample_size": 64, "cross_attention_dim": 768},
        small_denoiser=SMALL_UNET,
        vae=VAE,
        texts={"text_encoder": CLIP_L},
        parameters=0.8595e9,
        side=512,
        steps=30,
        guidance=7.5,
    ),
    "z-image-turbo": Architecture(
        family="z-image",
        start=tiny.z_image,
        denoiser={},
        small_denoiser=SMALL_Z,
        texts={"text_encoder": {"hidden_size": 2560}},
        parameters=6.155e9,
        steps=9,
        guidance=1.0,
    ),
    "flux2-klein-4b": Architecture(
        family="flux2",
        start=tiny.flux2_klein,
        denoiser={
            "num_layers": 5,
            "num_single_layers": 20,
            "num_attention_heads": 24,
            "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
        small_denoiser=SMALL_FLUX,
        vae={},
        texts={"text_encoder": {"hidden_size": 2560}},
        parameters=3.876e9,
        steps=4,
        guidance=1.0,
    ),
    "qwen-image": Architecture(
        family="qwen-image",
        start=tiny.qwen_image,
        denoiser={},
        small_denoiser={"num_layers": 1, "num_attention_heads": 2},
        vae={},
        small_vae=SMALL_QWEN_VAE,
        texts={"text_encoder": QWEN_7B},
        parameters=20.43e9,
        side=1328,
        steps=20,
        guidance=4.0,
    ),
    "sd35-large": Architecture(
        family="sd3",
        start=tiny.sd3,
        denoiser=mmdit(38, pos_embed_max_size=192),
        small_denoiser=SMALL_MMDIT,
        texts={"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL},
        parameters=8.057e9,
        steps=28,
        guidance=4.5,
    ),
    "sd35-medium": Architecture(
        family="sd3",
        start=tiny.sd3,
        denoiser=mmdit(24, pos_embed_max_size=384, dual_attention_layers=tuple(range(13))),
        small_denoiser=SMALL_MMDIT | {"dual_attention_layers": (0,)},
        texts={"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL},
        parameters=2.243e9,
        steps=28,
        guidance=4.5,
    ),
    "flux2-dev": Architecture(
        family="flux2",
        start=tiny.flux2,
        denoiser={},
        small_denoiser=SMALL_FLUX,
        vae={},
        texts={"text_encoder": {"hidden_size": 5120}},
        parameters=32.22e9,
        steps=28,
        guidance=4.0,
    ),
}


def built(shape: Architecture, device: torch.device, dtype: torch.dtype, small: bool) -> Checkpoint:
    """A checkpoint of that shape, random from a fixed seed, adopted by its family."""
    torch.manual_seed(0)
    pipe: Any = shape.start()
    name = denoiser_name(pipe)
    denoiser = shape.denoiser | (shape.small_denoiser if small else {})
    vae = shape.vae | (shape.small_vae if small else {})
    parts = {
        name: filled(type(pipe.components[name]), denoiser, device, dtype),
        "vae": filled(type(pipe.vae), scaled(pipe.vae) | vae, device, dtype),
    }
    for encoder, changes in shape.texts.items():
        parts[encoder] = widened(getattr(pipe, encoder), changes).to(device, dtype)
    pipe.register_modules(**parts)
    family: Family = importlib.import_module(MODULES[shape.family]).FAMILY
    spec = ModelSpec(id="bench", family=shape.family, width=shape.side, height=shape.side)
    return family.adopt(pipe, spec, device)


def tiny_preview(model: Checkpoint) -> Tiny | None:
    """A tiny autoencoder of full size for the model's latents; None if they are of no such kind."""
    vae = model.pipe.vae
    if "latent_channels" not in vae.config:
        return None
    settings = {"latent_channels": vae.config.latent_channels}
    decoder = filled(diffusers.AutoencoderTiny, settings, model.device, vae.dtype)
    return Tiny(decoder, vae.config.get("shift_factor") or 0.0, vae.config.get("scaling_factor", 1))


def scaled(vae: Any) -> Settings:
    """What a VAE's config says of the range of its latents, where it says it."""
    names = ("scaling_factor", "shift_factor")
    return {name: vae.config[name] for name in names if name in vae.config}


def filled(kind: Any, settings: Settings, device: torch.device, dtype: torch.dtype) -> Any:
    """A network whose weights are made where they are to stay, as a loader does it."""
    network = outlined(kind, settings)
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            value = torch.empty(parameter.shape, device=device, dtype=dtype)
            fill(name, value)
            module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    torch.nn.Module.to(network, device, dtype)  # the buffers; diffusers' own `to` would warn
    return network.eval()


def outlined(kind: Any, settings: Settings) -> Any:
    """A network without weights; its buffers are real."""
    with init_empty_weights(include_buffers=False):
        return kind(**settings)


def fill(name: str, value: torch.Tensor) -> None:
    """Norms scale by one, biases add nothing, the rest is random."""
    if name == "gamma" or (name == "weight" and value.ndim == 1):
        value.fill_(1.0)
    elif value.ndim == 1:
        value.zero_()
    else:
        value.normal_(std=STD)


def widened(encoder: Any, changes: Settings) -> Any:
    """A text encoder of the same kind whose output is as wide as the real one's."""
    config = copy.deepcopy(encoder.config)
    for name, value in changes.items():
        setattr(config.get_text_config(), name, value)
    return type(encoder)(config).eval()
