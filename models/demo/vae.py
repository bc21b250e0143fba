"""The autoencoder of the demo model: 128 px pictures to 16x16x4 latents and back.

Its start is not random: it begins as "mean colour of each 8x8 block" and learns edges from there,
which saves most of the training (a random start is still grey after hundreds of steps).
"""

from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from models.demo.drawing import draw
from models.demo.recipe import VaeRecipe
from models.demo.scenes import SIDE, Scene, scene

SHAPE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (8, 16, 48, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 1,  # more groups would normalise the flat colours away
    "sample_size": SIDE,
    "mid_block_add_attention": False,
    "force_upcast": False,
}
COLORS = torch.eye(3)
PATH_IN = torch.cat((COLORS, -COLORS, torch.zeros(2, 3)))
PATH_OUT = torch.cat((COLORS, -COLORS, torch.zeros(3, 2)), dim=1)
PATH_THROUGH = torch.eye(8)


def new_vae(seed: int) -> AutoencoderKL:
    """The untrained autoencoder, structured start included."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**SHAPE)
    start_as_block_means(vae)
    return vae


@torch.no_grad()
def start_as_block_means(vae: AutoencoderKL) -> None:
    """Lays a straight path for the colours through both halves, residual branches near silent.

    Channels 0-2 carry the colours, 3-5 their negatives (silu(x) - silu(-x) = x survives the last
    activation) and 6-7 a constant, which keeps the one norm group from scaling with the picture.
    """
    for half in (vae.encoder, vae.decoder):
        lay_path(half.conv_in, PATH_IN)
        offsets(half.conv_in)[:8] = torch.tensor([0.0] * 6 + [3.0, -3.0])
        lay_path(half.conv_out, PATH_OUT)
        for module in half.modules():
            if isinstance(module, ResnetBlock2D):
                kernel(module.conv2).weight.mul_(0.1)
                if module.conv_shortcut is not None:
                    lay_path(module.conv_shortcut, PATH_THROUGH)
            elif isinstance(module, Downsample2D):
                average(module.conv)
            elif isinstance(module, Upsample2D):
                nn.init.dirac_(kernel(module.conv).weight)
    nn.init.dirac_(kernel(vae.quant_conv).weight)
    nn.init.dirac_(kernel(vae.post_quant_conv).weight)
    kernel(vae.encoder.conv_out).weight[4:] = 0
    spread_of(vae).fill_(-6.0)  # little noise at first


def kernel(module: Any) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def offsets(module: Any) -> Tensor:
    bias = kernel(module).bias
    assert bias is not None
    return bias


def spread_of(vae: AutoencoderKL) -> Tensor:
    """The constant part of the posterior's log-variances, a view to write into."""
    return offsets(vae.quant_conv)[4:]


def lay_path(module: Any, path: Tensor) -> None:
    """Writes `path` (outputs, inputs) into the middle taps; other rows stay random."""
    conv = kernel(module)
    rows, columns = path.shape
    middle = conv.kernel_size[0] // 2
    conv.weight[:rows] = 0
    conv.weight[:rows, :columns, middle, middle] = path
    if conv.bias is not None:
        conv.bias.zero_()


def average(module: Any) -> None:
    """Sets a strided convolution, which pads right and below, to the mean of each 2x2 block."""
    conv = kernel(module)
    conv.weight.zero_()
    for channel in range(conv.out_channels):
        conv.weight[channel, channel, :2, :2] = 0.25


def vae_batch(recipe: VaeRecipe, step: int) -> Tensor:
    """The pictures of a step, (batch, 3, crop, crop) in -1..1; a pure function of the step."""
    rng = Random(recipe.seed * 1_000_003 + step)
    first = step * recipe.batch
    scenes = [scene(seed) for seed in range(first, first + recipe.batch)]
    return torch.stack([tint(recipe, rng, cut(rng, spec, recipe.crop)) for spec in scenes])


def cut(rng: Random, spec: Scene, crop: int) -> Tensor:
    """A square of the picture around its first thing, since flat parts teach little."""
    x, y = (
        int(min(max(at, 0), side - crop))
        for at, side in zip(wanted(rng, spec, crop), spec.frame, strict=True)
    )
    pixels = np.asarray(draw(spec).crop((x, y, x + crop, y + crop)), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def wanted(rng: Random, spec: Scene, crop: int) -> tuple[float, float]:
    """A corner of the square: near the first thing, or anywhere in a land without one."""
    if not spec.things:
        x, y = (rng.random() * (side - crop) for side in spec.frame)
        return x, y
    thing = spec.things[0]
    x, y = (
        middle + (rng.random() - 0.5) * thing.diameter - crop / 2 for middle in (thing.x, thing.y)
    )
    return x, y


def tint(recipe: VaeRecipe, rng: Random, picture: Tensor) -> Tensor:
    """Now and then other colours: each output channel a random mix of the three."""
    if rng.random() >= recipe.tinted:
        return picture
    mix = torch.tensor([[rng.random() * 2 - 1 for _ in range(3)] for _ in range(3)])
    shift = torch.tensor([rng.random() * 0.6 - 0.3 for _ in range(3)])
    return (torch.einsum("oc,chw->ohw", mix, picture) + shift[:, None, None]).clamp(-1, 1)


def vae_loss(vae: AutoencoderKL, recipe: VaeRecipe, step: int, pictures: Tensor) -> Tensor:
    """L1 of pixels and of their gradients, and a pull of every latent channel to unit variance.

    The noise on the latents is fixed. A posterior that may choose its own, under the usual
    divergence, gave up the fourth channel in the first steps and never used it again.
    """
    means = posterior_of(vae, pictures).mean
    dice = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    noise = torch.randn(means.shape, generator=dice).to(pictures.device)
    latents: Any = means + recipe.noise * noise
    output: Tensor = vae.decode(latents, return_dict=False)[0]
    pixels = (output - pictures).abs().mean()
    edges = sum(
        ((output.diff(dim=d) - pictures.diff(dim=d)).abs().mean() for d in (2, 3)),
        start=torch.zeros((), device=pictures.device),
    )
    spread = means.std(dim=(0, 2, 3)).log().square() + means.mean(dim=(0, 2, 3)).square()
    return pixels + recipe.edges * edges + recipe.unit * spread.mean()


def posterior_of(vae: AutoencoderKL, pictures: Tensor) -> DiagonalGaussianDistribution:
    (posterior,) = vae.encode(pictures, return_dict=False)
    return posterior


@torch.no_grad()
def silence(vae: AutoencoderKL) -> None:
    """Fixes the posterior's spread at next to nothing, so that encoding adds no noise of its own.

    Training leaves a latent channel that it does not need at unit variance; an image to edit should
    not gain that as grain.
    """
    kernel(vae.quant_conv).weight[4:] = 0
    spread_of(vae).fill_(-9.0)
