"""The diffusion half of the demo model: a small UNet and its text encoder, trained together.

v-prediction on the linear schedule, whose last signal-to-noise ratio is practically zero, so that
plain backgrounds come out in their exact colour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.demo.captions import caption
from models.demo.latents import Latents, training_scene
from models.demo.recipe import Phase, UnetRecipe
from models.demo.scenes import FRAMES, KINDS, SQUARE, Frame, pick
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


@dataclass(frozen=True, slots=True)
class Batch:
    """Scaled latents (n, 4, h, w) of one frame, and a fresh caption for each."""

    latents: Tensor
    captions: list[str]


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
        times = draw_times(len(clean), dice).to(device)
        signal = signals[times][:, None, None, None]
        rest = (1 - signal**2).sqrt()
        tokens = tokenized(denoiser.tokenizer, batch.captions).to(device)
        guess = denoiser(signal * clean + rest * noise, times, tokens)
        return (guess - (signal * noise - rest * clean)).square().mean()

    return loss


def captioned(phase: Phase, latents: Latents, rng: Random) -> Batch:
    """What a step shows."""
    side = (1 - phase.square) / 2
    frame = pick(rng, FRAMES, (phase.square, side, side))
    texts: list[str] = []
    parts: list[Tensor] = []
    for _ in range(size_of(phase, frame)):
        kind = pick(rng, KINDS, phase.mix)
        pool = latents.pools[kind, frame]
        index = int(rng.random() * len(pool))
        parts.append(pool[index])
        texts.append(caption(training_scene((kind, frame), index), rng, phase.explicit))
    return Batch(torch.stack(parts).float() * latents.scale, texts)


def size_of(phase: Phase, frame: Frame) -> int:
    return phase.batch if frame == SQUARE else phase.batch * 2 // 3


def tokenized(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    encoded = tokenizer(texts, padding="max_length", max_length=POSITIONS, truncation=True)
    return torch.tensor(encoded["input_ids"])


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    for phase in phases:
        step -= phase.steps
        if step < 0:
            return phase
    return phases[-1]


def signal_levels() -> Tensor:
    """The share of signal in a noisy latent at each time, (TIMES,)."""
    return (1 - torch.linspace(*BETAS, TIMES, dtype=torch.float64)).cumprod(0).sqrt().float()


def draw_times(count: int, dice: torch.Generator) -> Tensor:
    """Times spread evenly, so that every batch sees all noise levels."""
    spread = (torch.arange(count) + torch.rand(count, generator=dice)) / count
    return (spread * TIMES).long().clamp(0, TIMES - 1)
