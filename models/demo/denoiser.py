"""The diffusion half of the demo model: a small UNet and its text encoder, trained together.

v-prediction on the linear schedule, whose last signal-to-noise ratio is practically zero, so that
plain backgrounds come out in their exact colour.
"""

from collections.abc import Callable
from random import Random

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

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
        self.unet = new_unet(seed)

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
    denoiser: Denoiser, recipe: UnetRecipe, latents: Latents, device: torch.device
) -> Callable[[int], Tensor]:
    """The loss of a step number: mean squared error of v over that step's batch."""
    signals = signal_levels().to(device)

    def loss(step: int) -> Tensor:
        seed = recipe.seed * 1_000_003 + step
        dice = torch.Generator().manual_seed(seed)
        batch = captioned(phase_at(recipe.phases, step), latents, Random(seed))
        clean = batch.latents.to(device)
        noise = torch.randn(clean.shape, generator=dice).to(device)
        times = (spread(len(clean), dice) * TIMES).long().clamp(0, TIMES - 1).to(device)
        signal = signals[times][:, None, None, None]
        rest = (1 - signal**2).sqrt()
        tokens = tokenized(denoiser.tokenizer, batch.captions).to(device)
        guess = denoiser(signal * clean + rest * noise, times, tokens)
        return (guess - (signal * noise - rest * clean)).square().mean()

    return loss


def signal_levels() -> Tensor:
    """The share of signal in a noisy latent at each time, (TIMES,)."""
    return (1 - torch.linspace(*BETAS, TIMES, dtype=torch.float64)).cumprod(0).sqrt().float()
