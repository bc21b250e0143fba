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

from models.demo.captions import caption
from models.demo.latents import Latents, training_scene
from models.demo.recipe import Phase, UnetRecipe
from models.demo.text import POSITIONS, WIDTH, new_text_encoder, new_tokenizer

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
        phase = phase_at(recipe, step)
        seed = recipe.seed * 1_000_003 + step
        dice = torch.Generator().manual_seed(seed)
        indices, tokens = captioned(denoiser.tokenizer, phase, latents, Random(seed))
        clean = (latents.values[indices].float() * latents.scale).to(device)
        noise = torch.randn(clean.shape, generator=dice).to(device)
        times = draw_times(phase.batch, dice).to(device)
        signal = signals[times][:, None, None, None]
        rest = (1 - signal**2).sqrt()
        guess = denoiser(signal * clean + rest * noise, times, tokens.to(device))
        return (guess - (signal * noise - rest * clean)).square().mean()

    return loss


def captioned(
    tokenizer: CLIPTokenizer, phase: Phase, latents: Latents, rng: Random
) -> tuple[list[int], Tensor]:
    """Which scenes a step shows, and the tokens of a fresh caption for each."""
    indices: list[int] = []
    texts: list[str] = []
    others = len(latents.values) - latents.singles
    for _ in range(phase.batch):
        two = rng.random() < phase.pairs
        within = int(rng.random() * (others if two else latents.singles))
        indices.append(within + latents.singles * two)
        scene = training_scene(indices[-1], latents.singles)
        texts.append(caption(scene, rng, phase.explicit))
    encoded = tokenizer(texts, padding="max_length", max_length=POSITIONS, truncation=True)
    return indices, torch.tensor(encoded["input_ids"])


def phase_at(recipe: UnetRecipe, step: int) -> Phase:
    for phase in recipe.phases:
        step -= phase.steps
        if step < 0:
            return phase
    return recipe.phases[-1]


def signal_levels() -> Tensor:
    """The share of signal in a noisy latent at each time, (TIMES,)."""
    return (1 - torch.linspace(*BETAS, TIMES, dtype=torch.float64)).cumprod(0).sqrt().float()


def draw_times(count: int, dice: torch.Generator) -> Tensor:
    """Times spread evenly, so that every batch sees all noise levels."""
    spread = (torch.arange(count) + torch.rand(count, generator=dice)) / count
    return (spread * TIMES).long().clamp(0, TIMES - 1)
