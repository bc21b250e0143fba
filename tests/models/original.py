"""Writes checkpoints the way their authors first published them: one file, other names.

The opposite of what diffusers' converters do, for tiny pipelines in the geometry of SD 1 and SDXL.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tests.models import tiny

Tensors: TypeAlias = dict[str, torch.Tensor]
INSIDE = "model.diffusion_model."


def unet(**config: Any) -> UNet2DConditionModel:
    """As deep as the real ones, which the names count on."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        norm_num_groups=2,
        **({"cross_attention_dim": tiny.WIDTH, "attention_head_dim": 2} | config),
    )


def sd() -> StableDiffusionPipeline:
    pipe = tiny.sd()
    pipe.unet = unet(block_out_channels=(8, 8, 16, 16))
    return pipe


def sdxl() -> StableDiffusionXLPipeline:
    pipe = tiny.sdxl()
    pipe.unet = unet(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1, 2),
        projection_class_embeddings_input_dim=2 * tiny.WIDTH + 6 * 8,
        cross_attention_dim=3 * tiny.WIDTH,
    )
    # The two encoders are told apart by their widths, and the second by its tenth layer.
    config = tiny.clip_config().to_dict()
    wide = {"hidden_size": 2 * tiny.WIDTH, "projection_dim": 2 * tiny.WIDTH}
    deep = {"num_hidden_layers": 10, "hidden_act": "gelu"}
    pipe.text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**config | wide | deep))
    return pipe


def save(pipe: DiffusionPipeline, path: Path, without: str = "", **more: torch.Tensor) -> Path:
    """One file; parts whose first names are `without` are left out."""
    tensors = WRITERS[type(pipe).__name__](pipe) | more
    kept = {n: t for n, t in tensors.items() if not (without and n.startswith(without))}
    save_file({name: tensor.clone().contiguous() for name, tensor in kept.items()}, path)
    return path


def of_sd(pipe: DiffusionPipeline) -> Tensors:
    return (
        named(unet_names(pipe.unet), INSIDE)
        | named(vae_names(pipe.vae), "first_stage_model.")
        | named(clip_names(pipe.text_encoder), "cond_stage_model.transformer.")
    )


def of_sdxl(pipe: DiffusionPipeline) -> Tensors:
    return (
        named(unet_names(pipe.unet), INSIDE)
        | named(vae_names(pipe.vae), "first_stage_model.")
        | named(clip_names(pipe.text_encoder), "conditioner.embedders.0.transformer.")
        | named(open_clip_names(pipe.text_encoder_2), "conditioner.embedders.1.model.")
    )


def of_transformer(pipe: DiffusionPipeline) -> Tensors:
    """The transformer alone, as is usual, and by the names of diffusers, as some have them.

    Its authors' names are converted for their own widths only, which are beyond a test.
    """
    return dict(pipe.transformer.state_dict())


WRITERS = {
    "StableDiffusionPipeline": of_sd,
    "StableDiffusionXLPipeline": of_sdxl,
    "FluxPipeline": of_transformer,
    "Flux2Pipeline": of_transformer,
    "QwenImagePipeline": of_transformer,
    "ZImagePipeline": of_transformer,
}


def named(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def renamed(names: Mapping[str, torch.Tensor], rules: list[tuple[str, str]]) -> Tensors:
    """Every rule in turn, on every name."""
    found: Tensors = {}
    for name, tensor in names.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found


def unet_names(model: UNet2DConditionModel) -> Tensors:
    size = model.config.layers_per_block
    rules = [
        (r"^conv_in", "input_blocks.0.0"),
        (r"^time_embedding\.linear_1", "time_embed.0"),
        (r"^time_embedding\.linear_2", "time_embed.2"),
        (r"^add_embedding\.linear_1", "label_emb.0.0"),
        (r"^add_embedding\.linear_2", "label_emb.0.2"),
        (r"^mid_block\.resnets\.0", "middle_block.0"),
        (r"^mid_block\.attentions\.0", "middle_block.1"),
        (r"^mid_block\.resnets\.1", "middle_block.2"),
        (r"^conv_norm_out", "out.0"),
        (r"^conv_out", "out.2"),
    ]
    for i in range(len(model.down_blocks)):
        first = (size + 1) * i + 1
        for j in range(size):
            rules += [
                (rf"^down_blocks\.{i}\.resnets\.{j}\.", f"input_blocks.{first + j}.0."),
                (rf"^down_blocks\.{i}\.attentions\.{j}\.", f"input_blocks.{first + j}.1."),
            ]
        rules += [
            (rf"^down_blocks\.{i}\.downsamplers\.0\.conv", f"input_blocks.{first + size}.0.op")
        ]
    for i, block in enumerate(model.up_blocks):
        first = (size + 1) * i
        for j in range(size + 1):
            rules += [
                (rf"^up_blocks\.{i}\.resnets\.{j}\.", f"output_blocks.{first + j}.0."),
                (rf"^up_blocks\.{i}\.attentions\.{j}\.", f"output_blocks.{first + j}.1."),
            ]
        place = 2 if hasattr(block, "attentions") else 1
        rules += [
            (
                rf"^up_blocks\.{i}\.upsamplers\.0\.conv",
                f"output_blocks.{first + size}.{place}.conv",
            )
        ]
    block = r"^((?:in|out)put_blocks\.\d+\.0|middle_block\.[02])"
    rules += [
        (rf"{block}\.norm1\.", r"\1.in_layers.0."),
        (rf"{block}\.conv1\.", r"\1.in_layers.2."),
        (rf"{block}\.time_emb_proj\.", r"\1.emb_layers.1."),
        (rf"{block}\.norm2\.", r"\1.out_layers.0."),
        (rf"{block}\.conv2\.", r"\1.out_layers.3."),
        (rf"{block}\.conv_shortcut\.", r"\1.skip_connection."),
    ]
    return renamed(model.state_dict(), rules)


def vae_names(model: torch.nn.Module) -> Tensors:
    ups = len(model.decoder.up_blocks)
    rules = [
        (r"^encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2"),
        (r"^encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
        (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
        (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
        (r"conv_norm_out", "norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
    ]
    for i in range(ups):
        there = f"decoder.up.{ups - 1 - i}"
        rules += [
            (rf"^decoder\.up_blocks\.{i}\.resnets\.", f"{there}.block."),
            (rf"^decoder\.up_blocks\.{i}\.upsamplers\.0\.", f"{there}.upsample."),
        ]
    found = renamed(model.state_dict(), rules)
    square = re.compile(r"mid\.attn_1\.(q|k|v|proj_out)\.weight")
    return {n: t[:, :, None, None] if square.search(n) else t for n, t in found.items()}


def clip_names(model: torch.nn.Module) -> Tensors:
    """Under `text_model`, where newer libraries have left that out."""
    names = {name.removeprefix("text_model."): t for name, t in model.state_dict().items()}
    return named(names, "text_model.")


def open_clip_names(model: torch.nn.Module) -> Tensors:
    tensors = model.state_dict()
    projections = {
        f"transformer.resblocks.{i}.attn.in_proj_{kind}": torch.cat(
            [
                tensors[f"text_model.encoder.layers.{i}.self_attn.{which}_proj.{kind}"]
                for which in "qkv"
            ]
        )
        for i in range(model.config.num_hidden_layers)
        for kind in ("weight", "bias")
    }
    rest = {name: t for name, t in tensors.items() if not re.search(r"self_attn\.[qkv]_proj", name)}
    found = renamed(
        rest,
        [
            (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
            (r"self_attn\.out_proj", "attn.out_proj"),
            (r"layer_norm([12])", r"ln_\1"),
            (r"mlp\.fc1", "mlp.c_fc"),
            (r"mlp\.fc2", "mlp.c_proj"),
            (r"^text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
            (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
            (r"^text_model\.final_layer_norm", "ln_final"),
            (r"^text_projection\.weight", "text_projection"),
        ],
    )
    found["text_projection"] = found["text_projection"].T
    return found | projections
