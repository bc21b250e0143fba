"""The autoencoder of the demo model: 128 px pictures to 32x32x4 latents and back.

Its start is not random: it begins as "mean colour of each 4x4 block" and learns edges from there,
which saves most of the training (a random start is still grey after hundreds of steps).
"""

from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from models.demo.recipe import VaeRecipe
from models.demo.scenes import SIDE, Scene, draw, scene

CHANNELS = (8, 24, 48)


def new_vae(seed: int) -> AutoencoderKL:
    """The untrained autoencoder, structured start included."""
    torch.manual_seed(seed)
    blocks = len(CHANNELS)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,  # more groups would normalise the flat colours away
        sample_size=SIDE,
        mid_block_add_attention=False,
        force_upcast=False,
    )
    start_as_block_means(vae)
    return vae


@torch.no_grad()
def start_as_block_means(vae: AutoencoderKL) -> None:
    """Identity everywhere: averaging down, repeating up, residual branches nearly silent."""
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            module.conv2.weight.mul_(0.1)
            if module.conv_shortcut is not None:
                nn.init.orthogonal_(module.conv_shortcut.weight)
        elif isinstance(module, Downsample2D):
            averaging(module.conv)
        elif isinstance(module, Upsample2D):
            nn.init.dirac_(module.conv.weight)
    nn.init.dirac_(vae.encoder.conv_in.weight)
    nn.init.dirac_(vae.quant_conv.weight)
    nn.init.dirac_(vae.post_quant_conv.weight)
    vae.quant_conv.bias[4:].fill_(-6.0)  # log-variance: little noise at first
    vae.encoder.conv_out.weight[4:].zero_()


def averaging(conv: nn.Module) -> None:
    """Sets a strided convolution, which pads right and below, to the mean of each 2x2 block."""
    assert isinstance(conv, nn.Conv2d)
    conv.weight.zero_()
    for channel in range(conv.out_channels):
        conv.weight[channel, channel, :2, :2] = 0.25


def vae_batch(recipe: VaeRecipe, step: int) -> Tensor:
    """The pictures of a step, (batch, 3, crop, crop) in -1..1; a pure function of the step."""
    rng = Random(recipe.seed * 1_000_003 + step)
    crop = crop_at(recipe, step)
    first = step * recipe.batch
    scenes = [scene(seed, recipe.pairs) for seed in range(first, first + recipe.batch)]
    return torch.stack([tint(recipe, rng, cut(rng, spec, crop)) for spec in scenes])


def crop_at(recipe: VaeRecipe, step: int) -> int:
    for phase in recipe.phases:
        step -= phase.steps
        if step < 0:
            return phase.crop
    return recipe.phases[-1].crop


def cut(rng: Random, spec: Scene, crop: int) -> Tensor:
    """A square of the picture around some edge of its first thing, since flat parts teach little."""
    thing = spec.things[0]
    corner: list[int] = []
    for middle in (thing.x, thing.y):
        wanted = middle + (rng.random() - 0.5) * thing.diameter - crop / 2
        corner.append(int(min(max(wanted, 0), SIDE - crop)))
    x, y = corner
    pixels = np.asarray(draw(spec).crop((x, y, x + crop, y + crop)), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def tint(recipe: VaeRecipe, rng: Random, picture: Tensor) -> Tensor:
    """Now and then other colours: each output channel a random mix of the three."""
    if rng.random() >= recipe.tinted:
        return picture
    mix = torch.tensor([[rng.random() * 2 - 1 for _ in range(3)] for _ in range(3)])
    shift = torch.tensor([rng.random() * 0.6 - 0.3 for _ in range(3)])
    return (torch.einsum("oc,chw->ohw", mix, picture) + shift[:, None, None]).clamp(-1, 1)


def vae_loss(vae: AutoencoderKL, recipe: VaeRecipe, pictures: Tensor, noise: Tensor) -> Tensor:
    """L1 of pixels and of their gradients, plus a light pull of the latents to a unit normal."""
    posterior = vae.encode(pictures).latent_dist
    output = vae.decode(posterior.mean + posterior.std * noise).sample
    pixels = (output - pictures).abs().mean()
    edges = sum(
        ((output.diff(dim=d) - pictures.diff(dim=d)).abs().mean() for d in (2, 3)),
        start=torch.zeros((), device=pictures.device),
    )
    divergence = (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean() / 2
    return pixels + recipe.edges * edges + recipe.kl * divergence
