"""The diffusion half of the demo model: a small UNet and its text encoder, trained together.

v-prediction on the linear schedule, whose last signal-to-noise ratio is practically zero, so that
plain backgrounds come out in their exact colour.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.demo.attention import PlainAttention
from models.demo.batches import captioned, phase_at, spread, tokenized
from models.demo.latents import Latents
from models.demo.recipe import UnetRecipe
from models.demo.text import WIDTH, new_text_encoder, new_tokenizer

TIMES = 1000
BETAS = (1e-4, 0.02)


class Denoiser(nn.Module):
    """Text encoder and UNet as one set of weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.tokenizer: CLIPTokenizer = new_tokenizer()
        self.text = new_text_encoder(self.tokenizer, seed)
        self.text.set_attn_implementation("eager")  # that is, plain products as well
        self.unet = new_unet(seed)
        attention: Any = PlainAttention()
        self.unet.set_attn_processor(attention)

    def parts(self) -> list[nn.Module]:
        """What is worth compiling. Not the UNet as a whole: compiled so by torch 2.13, the inner
        two thirds of its weights got gradients of zero."""
        pieces = (ResnetBlock2D, BasicTransformerBlock)
        return [self.text, *(part for part in self.unet.modules() if isinstance(part, pieces))]

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """The predicted v, shaped as `noisy`."""
        meaning = self.text(tokens).last_hidden_state
        return self.unet(noisy, times, encoder_hidden_states=meaning).sample


def new_unet(seed: int) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # the number of heads, for historical reasons
        norm_num_groups=8,
        # The prompt as a whole also joins the time embedding and so scales and shifts every block.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    nn.init.zeros_(unet.conv_out.weight)
    return unet


def unet_loss(
    denoiser: Denoiser,
    recipe: UnetRecipe,
    latents: Latents,
    device: torch.device,
    blocks: Latents | None = None,
) -> Callable[[int], Tensor]:
    """The loss of a step number: mean squared error of v over that step's batch, which is of
    `blocks` in coarse phases."""
    signals = signal_levels().to(device)

    def loss(step: int) -> Tensor:
        seed = recipe.seed * 1_000_003 + step
        dice = torch.Generator().manual_seed(seed)
        phase = phase_at(recipe.phases, step)
        shown = blocks if phase.coarse and blocks is not None else latents
        batch = captioned(phase, shown, Random(seed))
        clean = batch.latents.to(device)
        noise = torch.randn(clean.shape, generator=dice).to(device)
        times = times_of(spread(len(clean), dice), phase.even).to(device)
        signal = signals[times][:, None, None, None]
        rest = (1 - signal**2).sqrt()
        tokens = tokenized(denoiser.tokenizer, batch.captions).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            guess = denoiser(signal * clean + rest * noise, times, tokens)
        return (guess.float() - (signal * noise - rest * clean)).square().mean()

    return loss


def times_of(evenly: Tensor, even: int) -> Tensor:
    """Times 0..TIMES-1 from numbers 0..1 spread evenly: one in `even` of them stays where it
    is, the others move to the middle, where outlines are decided."""
    shares = torch.special.ndtri(evenly).sigmoid()
    shares[::even] = evenly[::even]
    return (shares * TIMES).long().clamp(0, TIMES - 1)


def signal_levels() -> Tensor:
    """The share of signal in a noisy latent at each time, (TIMES,)."""
    return (1 - torch.linspace(*BETAS, TIMES, dtype=torch.float64)).cumprod(0).sqrt().float()
