"""Trains a demo model from nothing: `python -m models.demo.train --out DIR [--device cuda]`.

First the autoencoder, then text encoder and UNet together, then the fp16 folder DIR/sketch.
`--model sketch-flux` and `--model enlarger` take the autoencoder of the shipped `sketch`.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from models.demo.denoiser import Denoiser, unet_loss
from models.demo.enlarging import enlarger_loss, new_enlarger
from models.demo.enlarging import finish as write_enlarger
from models.demo.export import export, flow_pipeline, pipeline
from models.demo.flow import FlowDenoiser, flow_loss
from models.demo.latents import Latents, cached, coarse
from models.demo.loop import Stage, read_kept, train
from models.demo.muon import optimizers
from models.demo.primer import Primer, primer_loss
from models.demo.recipe import (
    COARSE,
    EnlargerRecipe,
    FlowRecipe,
    PrimerRecipe,
    UnetRecipe,
    VaeRecipe,
)
from models.demo.teacher import Teacher
from models.demo.vae import new_vae, silence, vae_batch, vae_loss

SHIPPED = Path(__file__).parent / "sketch"
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Run:
    """Where the checkpoints of a run are, what computes it, and whether it goes on from them."""

    folder: Path
    device: torch.device
    resume: bool
    compiled: bool = False

    def train(
        self, name: str, model: nn.Module, loss: Callable[[int], Tensor], recipe: "Recipe"
    ) -> None:
        """Trains a model under its recipe, by Muon; DIR/name.pt is its checkpoint."""
        level, ema = (0, 0.0) if isinstance(recipe, VaeRecipe) else (recipe.level, recipe.ema)
        movers = optimizers(model, recipe.lr)
        stage = Stage(name, model, loss, movers, recipe.steps, recipe.warmup, level, ema)
        train(stage, self.folder, resume=self.resume)

    def on(self, model: M) -> M:
        nn.Module.to(model, self.device)  # in place; diffusers' own is typed for instances only
        return model

    def hasten(self, parts: Iterable[nn.Module]) -> None:
        """With --compile, compiles parts of a model for training; each new size of batch takes a
        minute or more at its first step."""
        if self.compiled:
            torch._dynamo.config.recompile_limit = 64  # beyond it parts would stay as they are
            for part in parts:
                part.compile(dynamic=False)


Recipe = VaeRecipe | UnetRecipe | PrimerRecipe | FlowRecipe | EnlargerRecipe


def train_vae(run: Run) -> None:
    recipe, vae = VaeRecipe(), run.on(new_vae(VaeRecipe().seed))

    def loss(step: int) -> Tensor:
        return vae_loss(vae, recipe, step, vae_batch(recipe, step).to(run.device))

    run.train("vae", vae, loss, recipe)


def train_unet(run: Run) -> None:
    recipe = UnetRecipe()
    denoiser = run.on(Denoiser(recipe.seed))
    latents = cached(latents_of(run), run.on(trained_vae(run.folder / "vae.pt")), run.device)
    run.hasten(denoiser.parts())
    blocks = coarse(COARSE) if any(phase.coarse for phase in recipe.phases) else None
    run.train("unet", denoiser, unet_loss(denoiser, recipe, latents, run.device, blocks), recipe)


def train_primer(run: Run) -> None:
    recipe, denoiser = PrimerRecipe(), run.on(FlowDenoiser(FlowRecipe().seed))
    primer, teacher = run.on(Primer(denoiser)), run.on(Teacher(SHIPPED))
    run.train("primer", primer, primer_loss(primer, teacher, denoiser, recipe, run.device), recipe)


def train_flow(run: Run) -> None:
    recipe, denoiser = FlowRecipe(), run.on(FlowDenoiser(FlowRecipe().seed))
    run.on(Primer(denoiser)).load_state_dict(read_kept(run.folder / "primer.pt"))
    vae, teacher = run.on(shipped_vae()), run.on(Teacher(SHIPPED))
    scale = float(vae.config["scaling_factor"])
    latents = cached(run.folder / "latents-shipped.pt", vae, run.device)
    latents = Latents(latents.pools, scale)  # which the folder has to keep
    run.hasten(denoiser.parts())
    run.train("flow", denoiser, flow_loss(denoiser, recipe, latents, run.device, teacher), recipe)


def train_enlarger(run: Run) -> None:
    recipe, vae = EnlargerRecipe(), run.on(shipped_vae())
    network = run.on(new_enlarger(recipe))
    run.train("enlarger", network, enlarger_loss(network, vae, recipe), recipe)


def latents_of(run: Run) -> Path:
    return run.folder / "latents.pt"


def finish(run: Run) -> None:
    """The fp16 folder from the checkpoints, whatever step they are at."""
    vae = trained_vae(run.folder / "vae.pt")
    scale = float(torch.load(latents_of(run), weights_only=True)["scale"])
    vae.register_to_config(scaling_factor=scale)
    denoiser = Denoiser(UnetRecipe().seed)
    denoiser.load_state_dict(read_kept(run.folder / "unet.pt"))
    export(pipeline(vae, denoiser), run.folder / "sketch")


def finish_flow(run: Run) -> None:
    denoiser = FlowDenoiser(FlowRecipe().seed)
    denoiser.load_state_dict(read_kept(run.folder / "flow.pt"))
    export(flow_pipeline(shipped_vae(), denoiser), run.folder / "sketch-flux")


def finish_enlarger(run: Run) -> None:
    network = new_enlarger(EnlargerRecipe())
    network.load_state_dict(read_kept(run.folder / "enlarger.pt"))
    write_enlarger(network, run.folder / "enlarger.safetensors")


def trained_vae(checkpoint: Path) -> AutoencoderKL:
    vae = new_vae(VaeRecipe().seed)
    vae.load_state_dict(read_kept(checkpoint))
    silence(vae)
    return vae.eval()


def shipped_vae() -> AutoencoderKL:
    """The autoencoder of `sketch`, which its sibling shares."""
    return AutoencoderKL.from_pretrained(SHIPPED / "vae", torch_dtype=torch.float32).eval()


MODELS: dict[str, dict[str, Callable[[Run], None]]] = {
    "sketch": {"vae": train_vae, "unet": train_unet, "export": finish},
    "sketch-flux": {"primer": train_primer, "flow": train_flow, "export": finish_flow},
    "enlarger": {"enlarger": train_enlarger, "export": finish_enlarger},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints and finished folder")
    parser.add_argument("--model", default="sketch", choices=tuple(MODELS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--stage", help="one stage only; without it all, in their order")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; last bits depend on it")
    parser.add_argument("--compile", action="store_true", help="quicker; needs a C++ compiler")
    given = parser.parse_args()
    stages = MODELS[given.model]
    if given.stage not in (None, *stages):
        parser.error(f"the stages of {given.model} are {', '.join(stages)}")
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    run = Run(given.out, torch.device(given.device), given.resume, given.compile)
    for name, stage in stages.items():
        if given.stage in (None, name):
            stage(run)


if __name__ == "__main__":
    main()
