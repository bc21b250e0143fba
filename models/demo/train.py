"""Trains the demo model from nothing: `python -m models.demo.train --out DIR [--device cuda]`.

First the autoencoder, then text encoder and UNet together, then the fp16 folder DIR/sketch.
"""

import argparse
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from models.demo.denoiser import Denoiser, unet_loss
from models.demo.export import export
from models.demo.latents import cached
from models.demo.loop import Stage, read_kept, train
from models.demo.muon import optimizers
from models.demo.recipe import UnetRecipe, VaeRecipe
from models.demo.vae import new_vae, silence, vae_batch, vae_loss

M = TypeVar("M", bound=nn.Module)


def train_vae(recipe: VaeRecipe, folder: Path, device: torch.device, *, resume: bool) -> None:
    vae = on(device, new_vae(recipe.seed))

    def loss(step: int) -> Tensor:
        return vae_loss(vae, recipe, step, vae_batch(recipe, step).to(device))

    adam = torch.optim.AdamW(
        vae.parameters(), recipe.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    train(Stage("vae", vae, loss, [adam], recipe.steps, recipe.warmup), folder, resume=resume)


def train_unet(recipe: UnetRecipe, folder: Path, device: torch.device, *, resume: bool) -> None:
    latents = cached(folder / "latents.pt", on(device, trained_vae(folder)), device)
    denoiser = on(device, Denoiser(recipe.seed))
    loss = unet_loss(denoiser, recipe, latents, device)
    movers = optimizers(denoiser, recipe.lr)
    stage = Stage(
        "unet", denoiser, loss, movers, recipe.steps, recipe.warmup, recipe.level, recipe.ema
    )
    train(stage, folder, resume=resume)


def finish(folder: Path) -> None:
    """The fp16 folder from the two checkpoints, whatever step they are at."""
    vae = trained_vae(folder)
    scale = float(torch.load(folder / "latents.pt", weights_only=True)["scale"])
    vae.register_to_config(scaling_factor=scale)
    denoiser = Denoiser(UnetRecipe().seed)
    denoiser.load_state_dict(read_kept(folder / "unet.pt"))
    export(vae, denoiser, folder / "sketch")


def on(device: torch.device, model: M) -> M:
    nn.Module.to(model, device)  # in place; diffusers' own `to` is typed for its instances only
    return model


def trained_vae(folder: Path) -> AutoencoderKL:
    vae = new_vae(VaeRecipe().seed)
    vae.load_state_dict(read_kept(folder / "vae.pt"))
    silence(vae)
    return vae.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints and finished folder")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--stage", default="all", choices=("vae", "unet", "export", "all"))
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; last bits depend on it")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(given.device)
    if given.stage in ("vae", "all"):
        train_vae(VaeRecipe(), given.out, device, resume=given.resume)
    if given.stage in ("unet", "all"):
        train_unet(UnetRecipe(), given.out, device, resume=given.resume)
    if given.stage in ("export", "all"):
        finish(given.out)


if __name__ == "__main__":
    main()
