"""Tiny random checkpoints of every architecture, in the geometry of the real ones.

Each builder returns a pipeline to be saved; nothing is downloaded, so tokenizers know bytes only.
"""

from collections.abc import Callable, Sequence

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PixtralImageProcessor,
    PixtralProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WIDTH = 32  # of the text embeddings
MARKS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
CONVERSATION = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# -- Tokenizers -----------------------------------------------------------------------------------


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level tokenizers use."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable}
    names |= {byte: chr(256 + position) for position, byte in enumerate(others)}
    return [names[byte] for byte in range(256)]


def clip_tokenizer() -> CLIPTokenizer:
    symbols = byte_symbols()
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77
    )


def t5_tokenizer() -> T5Tokenizer:
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=[*marks, *letters], extra_ids=0, model_max_length=512)


def qwen_tokenizer() -> Qwen2Tokenizer:
    words = [*byte_symbols(), *MARKS]
    tokenizer = Qwen2Tokenizer(
        vocab={word: i for i, word in enumerate(words)},
        merges=[],
        model_max_length=32768,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(MARKS),
    )
    tokenizer.chat_template = CONVERSATION
    return tokenizer


# -- Text encoders --------------------------------------------------------------------------------


def clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        hidden_size=WIDTH,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=WIDTH,
    )


def t5(width: int = WIDTH) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=98,
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
        )
    )


def qwen3(kind: Callable[..., torch.nn.Module], layers: int) -> torch.nn.Module:
    return kind(
        Qwen3Config(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            vocab_size=264,
            max_position_embeddings=1024,
        )
    )


def qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    ids = dict(zip(MARKS, range(256, 264), strict=True))
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "vocab_size": 264,
                "max_position_embeddings": 4096,
                "rope_parameters": {
                    "mrope_section": [1, 1, 2],
                    "rope_type": "default",
                    "rope_theta": 1e6,
                },
            },
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
                "fullatt_block_indexes": [1],
            },
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
    ).eval()


# -- Autoencoders and schedulers ------------------------------------------------------------------


def vae(channels: int = 4, quant: bool = True, **config: object) -> AutoencoderKL:
    model = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=2,
        sample_size=64,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
        **config,
    )
    narrow(model.quant_conv if quant else model.encoder.conv_out, channels)
    return model


def narrow(last: torch.nn.Module, channels: int) -> None:
    """Makes a posterior as narrow as trained ones are, or noise would cover what is tested."""
    with torch.no_grad():
        last.weight[channels:] = 0
        last.bias[channels:] = -20


def flux2_vae() -> AutoencoderKLFlux2:
    model = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=32,
        norm_num_groups=2,
        sample_size=64,
    )
    narrow(model.quant_conv, 32)
    return model


def qwen_vae() -> AutoencoderKLQwenImage:
    model = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    narrow(model.quant_conv, 16)
    return model


def flow(**config: object) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=3.0, **config)


def louder(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    """Scales the matrices: some random transformers hardly hear their text otherwise."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter *= factor
    return model


# -- Checkpoints ----------------------------------------------------------------------------------


def unet(channels: int = 4, **config: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        **({"cross_attention_dim": WIDTH, "attention_head_dim": 2} | config),
    )


def sd(
    channels: int = 4, kind: type[DiffusionPipeline] = StableDiffusionPipeline
) -> DiffusionPipeline:
    return kind(
        unet=unet(channels),
        vae=vae(shift_factor=0.1),
        text_encoder=CLIPTextModel(clip_config()),
        tokenizer=clip_tokenizer(),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd_inpaint() -> DiffusionPipeline:
    return sd(9, StableDiffusionInpaintPipeline)


def pix2pix() -> DiffusionPipeline:
    return sd(8, StableDiffusionInstructPix2PixPipeline)


def sdxl(
    channels: int = 4, kind: type[DiffusionPipeline] = StableDiffusionXLPipeline
) -> DiffusionPipeline:
    denoiser = unet(
        channels,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        cross_attention_dim=2 * WIDTH,
    )
    return kind(
        unet=denoiser,
        vae=vae(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(clip_config()),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        add_watermarker=False,
    )


def sdxl_inpaint() -> DiffusionPipeline:
    return sdxl(9, StableDiffusionXLInpaintPipeline)


def sd3(reads_t5: bool = True) -> DiffusionPipeline:
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=32,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow(),
        vae=vae(16, quant=False, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(clip_config()),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(2 * WIDTH) if reads_t5 else None,
        tokenizer_3=t5_tokenizer() if reads_t5 else None,
    )


def sd3_without_t5() -> DiffusionPipeline:
    return sd3(reads_t5=False)


def flux(
    kind: type[DiffusionPipeline] = FluxPipeline, channels: int = 64, embeds: bool = True
) -> DiffusionPipeline:
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        out_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=embeds,
    )
    return kind(
        transformer=transformer,
        vae=vae(16, quant=False, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(clip_config()),
        text_encoder_2=t5(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        scheduler=flow(use_dynamic_shifting=embeds),
    )


def flux_schnell() -> DiffusionPipeline:
    return flux(embeds=False)


def flux_fill() -> DiffusionPipeline:
    return flux(FluxFillPipeline, 384)  # latents, masked latents and the mask's pixels


def flux_kontext() -> DiffusionPipeline:
    return flux(FluxKontextPipeline)


def flux2_transformer(embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=128,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=embeds,
    )


def flux2_klein(distilled: bool = True) -> DiffusionPipeline:
    return Flux2KleinPipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=flux2_vae(),
        text_encoder=louder(qwen3(Qwen3ForCausalLM, 28), 4),  # it reads layers 9, 18 and 27
        tokenizer=qwen_tokenizer(),
        transformer=louder(flux2_transformer(embeds=False), 4),
        is_distilled=distilled,
    )


def flux2_klein_base() -> DiffusionPipeline:
    return flux2_klein(distilled=False)


def flux2() -> DiffusionPipeline:
    tokenizer = qwen_tokenizer()
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": 264,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "num_hidden_layers": 31,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 1024,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "image_size": 28,
            "patch_size": 14,
            "head_dim": 8,
        },
        image_token_index=262,
    )
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(),
        tokenizer=tokenizer,
        patch_size=14,
        image_token="<|image_pad|>",
        image_break_token="<|vision_pad|>",
        image_end_token="<|vision_end|>",
        chat_template=tokenizer.chat_template,
    )
    return Flux2Pipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=flux2_vae(),
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=processor,
        transformer=flux2_transformer(embeds=True),
    )


def qwen_transformer() -> torch.nn.Module:
    model = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    return louder(model, 3)


def qwen_image() -> DiffusionPipeline:
    return QwenImagePipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=qwen_vae(),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tokenizer(),
        transformer=qwen_transformer(),
    )


def qwen_edit(kind: type[DiffusionPipeline] = QwenImageEditPipeline) -> DiffusionPipeline:
    tokenizer = qwen_tokenizer()
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=16 * 28 * 28),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )
    return kind(
        scheduler=flow(use_dynamic_shifting=True),
        vae=qwen_vae(),
        text_encoder=qwen_vl(),
        tokenizer=tokenizer,
        processor=processor,
        transformer=qwen_transformer(),
    )


def qwen_edit_plus() -> DiffusionPipeline:
    return qwen_edit(QwenImageEditPlusPipeline)


def z_image() -> DiffusionPipeline:
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=WIDTH,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    with torch.no_grad():  # left unset by its constructor
        transformer.x_pad_token.fill_(1.0)
        transformer.cap_pad_token.fill_(1.0)
    return ZImagePipeline(
        scheduler=flow(),
        vae=vae(16, quant=False, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=qwen3(Qwen3Model, 3),
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
    )


BUILDERS: Sequence[Callable[[], DiffusionPipeline]] = (
    *(sd, sd_inpaint, pix2pix, sdxl, sdxl_inpaint, sd3, sd3_without_t5),
    *(flux, flux_schnell, flux_fill, flux_kontext, flux2, flux2_klein, flux2_klein_base),
    *(qwen_image, qwen_edit, qwen_edit_plus, z_image),
)
