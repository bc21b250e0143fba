"""A small network that makes pictures of the demo models four times as wide and as high, sharply.

It learns from pictures as the autoencoder gives them back, slightly disturbed as painted ones are,
what the same scene looks like when it is drawn at the larger size. The architecture is that of
Real-ESRGAN's compact models, which the programs that enlarge pictures know.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor

from models.demo.drawing import draw
from models.demo.latents import pixels
from models.demo.recipe import EnlargerRecipe
from models.demo.scenes import FRAMES, KINDS, Scene, compose, pick
from models.demo.vae import posterior_of, wanted

TIMES = 4
FRAME_SHARES = (0.6, 0.2, 0.2)
KIND_SHARES = (0.3, 0.4, 0.1, 0.1, 0.1)  # of scenes.KINDS


def new_enlarger(recipe: EnlargerRecipe) -> Compact:
    """The untrained network, which adds what it makes up to the repetition of each pixel."""
    torch.manual_seed(recipe.seed)
    return Compact(num_feat=recipe.width, num_conv=recipe.depth, upscale=TIMES)


def scene_of(seed: int) -> Scene:
    """Any scene of the grammar."""
    rng = Random(seed)
    return compose(pick(rng, KINDS, KIND_SHARES), rng, pick(rng, FRAMES, FRAME_SHARES))


def given_back(
    vae: AutoencoderKL, scenes: Sequence[Scene], noise: Sequence[float], dice: torch.Generator
) -> list[Tensor]:
    """Each scene as the autoencoder paints it, (3, h, w) in 0..1; `noise` is that on its latents,
    as shares of their spread."""
    device, scale = next(vae.parameters()).device, float(vae.config["scaling_factor"])
    pictures: list[Tensor] = []
    with torch.no_grad():
        for scene, share in zip(scenes, noise, strict=True):
            latents: Any = posterior_of(vae, pixels([draw(scene)]).to(device)).mean
            disturbance = torch.randn(latents.shape, generator=dice).to(device) / scale
            output = vae.decode(latents + share * disturbance, return_dict=False)[0][0]
            pictures.append((output / 2 + 0.5).clamp(0, 1))
    return pictures


def drawn(scene: Scene, times: int = TIMES) -> Tensor:
    """The scene at so many times its size, (3, h, w) in 0..1."""
    image = np.asarray(draw(scene, times), dtype=np.float32) / 255
    return torch.from_numpy(image).permute(2, 0, 1)


def pairs(vae: AutoencoderKL, recipe: EnlargerRecipe, step: int) -> tuple[Tensor, Tensor]:
    """The small and the large cuts of a step; a pure function of the step."""
    seed = recipe.seed * 1_000_003 + step
    rng, dice = Random(seed), torch.Generator().manual_seed(seed)
    scenes = [scene_of(step * recipe.scenes + number) for number in range(recipe.scenes)]
    noise = [recipe.noise * rng.random() for _ in scenes]
    small: list[Tensor] = []
    large: list[Tensor] = []
    for scene, painted in zip(scenes, given_back(vae, scenes, noise, dice), strict=True):
        target = drawn(scene).to(painted.device)
        for _ in range(recipe.cuts):
            x, y = corner(rng, scene, recipe.cut)
            end, wide = recipe.cut, recipe.cut * TIMES
            small.append(painted[:, y : y + end, x : x + end])
            large.append(target[:, y * TIMES : y * TIMES + wide, x * TIMES : x * TIMES + wide])
    return torch.stack(small), torch.stack(large)


def corner(rng: Random, scene: Scene, cut: int) -> tuple[int, int]:
    """The left top of a cut near the first thing, since flat parts teach little."""
    x, y = (
        int(min(max(at, 0), side - cut))
        for at, side in zip(wanted(rng, scene, cut), scene.frame, strict=True)
    )
    return x, y


def enlarger_loss(
    network: Compact, vae: AutoencoderKL, recipe: EnlargerRecipe
) -> Callable[[int], Tensor]:
    """The loss of a step number: L1 of pixels and of their gradients."""

    def loss(step: int) -> Tensor:
        small, large = pairs(vae, recipe, step)
        output = network(small)
        edges = [(output.diff(dim=d) - large.diff(dim=d)).abs().mean() for d in (2, 3)]
        return (output - large).abs().mean() + recipe.edges * (edges[0] + edges[1])

    return loss


def finish(network: Compact, file: Path) -> None:
    """Writes the weights as half precision safetensors."""
    halved = {name: part.half().contiguous() for name, part in network.state_dict().items()}
    save_file(halved, file)
    file.chmod(0o644)  # safetensors writes it for the owner alone
