"""The shipped `sketch` as a teacher: what it expects behind a noisy latent, in its sibling's terms.

Both see the same pictures through the same autoencoder, and differ in how they mix in noise only.
`sketch` keeps the variance (a * picture + s * noise, a^2 + s^2 = 1), its sibling goes along a
straight line, ((1 - sigma) * picture + sigma * noise): the same latent up to a factor.
"""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from models.demo.denoiser import TIMES, signal_levels


class Teacher(nn.Module):
    """Text encoder and UNet of a trained `sketch`, which learn no more."""

    sigmas: Tensor  # shares of noise at its times

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        self.unet = UNet2DConditionModel.from_pretrained(
            folder / "unet", torch_dtype=torch.float32, use_safetensors=True
        )
        self.register_buffer("sigmas", noise_levels())
        self.requires_grad_(False)

    def forward(self, noisy: Tensor, sigmas: Tensor, tokens: Tensor) -> Tensor:
        """The direction from the picture to the noise that it expects, shaped as `noisy`."""
        share = sigmas[:, None, None, None]
        length = ((1 - share) ** 2 + share**2).sqrt()
        signal, noise = (1 - share) / length, share / length
        meaning = self.text(tokens).last_hidden_state
        seen = noisy / length
        v = self.unet(seen, self.times(sigmas), encoder_hidden_states=meaning).sample
        return (noise - signal) * seen + (noise + signal) * v

    def times(self, sigmas: Tensor) -> Tensor:
        """The teacher's times of these shares of noise, as fractions; the last for all above."""
        upper = torch.searchsorted(self.sigmas, sigmas.contiguous()).clamp(1, TIMES - 1)
        below, above = self.sigmas[upper - 1], self.sigmas[upper]
        return upper - 1 + ((sigmas - below) / (above - below)).clamp(0, 1)


def noise_levels() -> Tensor:
    """The share of noise on the straight line at each of the teacher's times, (TIMES,)."""
    signal = signal_levels()
    noise = (1 - signal**2).sqrt()
    return noise / (signal + noise)
