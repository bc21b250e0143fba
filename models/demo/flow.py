"""The FLUX-class sibling of the demo model: a small FluxTransformer2DModel and two text encoders.

Rectified flow (Esser et al. 2024): a straight line from picture to noise, of which the network
learns the direction. Both text encoders read the same tokens.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from models.demo.attention import PlainFluxAttention
from models.demo.batches import captioned, phase_at, spread, tokenized
from models.demo.denoiser import TIMES
from models.demo.latents import Latents
from models.demo.recipe import FlowRecipe
from models.demo.teacher import noise_levels
from models.demo.text import POSITIONS, WIDTH, clip_config, new_tokenizer
from models.demo.vocabulary import END

GIST = 96  # width of the prompt as a whole
REDUCTION = 8  # pixels per latent


class FlowDenoiser(nn.Module):
    """Both text encoders and the transformer as one set of weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.tokenizer: CLIPTokenizer = new_tokenizer()
        self.gist = CLIPTextModel(gist_config(self.tokenizer))
        self.words = T5EncoderModel(words_config(self.tokenizer))
        self.transformer = new_transformer()
        attention: Any = PlainFluxAttention()
        self.transformer.set_attn_processor(attention)

    def parts(self) -> list[nn.Module]:
        """What is worth compiling."""
        return list(self.children())

    def forward(self, noisy: Tensor, sigmas: Tensor, tokens: Tensor) -> Tensor:
        """The direction from the picture to the noise, shaped as `noisy`; sigmas are 0..1."""
        count, channels, height, width = noisy.shape
        places = FluxPipeline._prepare_latent_image_ids(
            count, height // 2, width // 2, noisy.device, noisy.dtype
        )
        output = self.transformer(
            hidden_states=FluxPipeline._pack_latents(noisy, count, channels, height, width),
            timestep=sigmas,
            pooled_projections=self.gist(tokens).pooler_output,
            encoder_hidden_states=self.words(tokens).last_hidden_state,
            img_ids=places,
            txt_ids=torch.zeros(tokens.shape[1], 3, device=noisy.device),
        ).sample
        size = height * REDUCTION, width * REDUCTION
        return FluxPipeline._unpack_latents(output, *size, REDUCTION)


def new_transformer() -> FluxTransformer2DModel:
    """Every block starts as the identity, and the whole as zero."""
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=4,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=GIST,
        guidance_embeds=False,  # so guidance and negative prompts take a second prediction
        axes_dims_rope=(4, 30, 30),
    )
    for name, module in transformer.named_modules():
        silent = name == "proj_out" or (".norm" in f".{name}" and name.endswith("linear"))
        if silent and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return transformer


def gist_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return clip_config(tokenizer, width=GIST, layers=1)


def words_config(tokenizer: CLIPTokenizer) -> T5Config:
    vocabulary = tokenizer.get_vocab()
    return T5Config(
        vocab_size=len(vocabulary),
        d_model=WIDTH,
        d_kv=32,
        d_ff=2 * WIDTH,
        num_layers=1,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        dropout_rate=0.0,
        pad_token_id=vocabulary[END],
        eos_token_id=vocabulary[END],
    )


def second_tokenizer(first: CLIPTokenizer) -> PreTrainedTokenizerFast:
    """The same tokens, for a text encoder that is not CLIP's."""
    return PreTrainedTokenizerFast(
        tokenizer_object=first.backend_tokenizer,
        model_max_length=POSITIONS,
        pad_token=END,
        eos_token=END,
        unk_token=END,
    )


def flow_loss(
    denoiser: FlowDenoiser,
    recipe: FlowRecipe,
    latents: Latents,
    device: torch.device,
    teacher: nn.Module | None = None,
) -> Callable[[int], Tensor]:
    """The loss of a step number: mean squared error of the direction over that step's batch."""

    def loss(step: int) -> Tensor:
        seed = recipe.seed * 1_000_003 + step
        dice = torch.Generator().manual_seed(seed)
        batch = captioned(phase_at(recipe.phases, step), latents, Random(seed))
        clean = batch.latents.to(device)
        noise = torch.randn(clean.shape, generator=dice).to(device)
        taught = teacher is not None and step >= recipe.taught
        sigmas = shares(spread(len(clean), dice), recipe, taught=taught).to(device)
        share = sigmas[:, None, None, None]
        noisy, way = (1 - share) * clean + share * noise, noise - clean
        tokens = tokenized(denoiser.tokenizer, batch.captions).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            if teacher is not None and taught:
                clear = int((sigmas < recipe.clear).sum())  # which come first
                with torch.no_grad():
                    way[clear:] = teacher(noisy[clear:], sigmas[clear:], tokens[clear:])
            guess = denoiser(noisy, sigmas, tokens)
        return (guess.float() - way).square().mean()

    return loss


def shares(evenly: Tensor, recipe: FlowRecipe, *, taught: bool) -> Tensor:
    """Shares of noise, rising, from numbers 0..1 that do: first as often as `sketch` learned them,
    then mostly where an outline is decided."""
    if taught:
        return (torch.special.ndtri(evenly) * recipe.width + recipe.middle).sigmoid()
    levels = noise_levels() / noise_levels()[-1]
    return levels[(evenly * TIMES).long().clamp(0, TIMES - 1)]
