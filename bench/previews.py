"""What a preview costs beside a step, in seconds, on this machine.

For the shipped model with its linear factors, and for a network of Stable Diffusion 1.5's size with
random weights, with linear factors and with a tiny autoencoder of full size. Both kinds of preview
are made after every step, so all that is compared is measured in turns, and given as the median.
Run it with `python -m bench.previews --out bench/results/NAME.json`.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import track

from bench import machine
from bench.architectures import ARCHITECTURES, built, tiny_preview
from bench.stages import PROMPT, Figures, neat
from bench.stopwatch import Stopwatch, Turns, watched
from models import device
from models.checkpoint import Checkpoint
from models.contract import Job
from models.families import loader
from models.preview import Preview
from server.settings.config import load
from server.settings.stock import model_spec

EVERY = 4  # steps between the previews of a picture
BAR = 0.03  # of a step; what a preview may cost
PICTURES = 5  # of the shipped model


def main() -> None:
    """Print the figures, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--steps", type=int, default=3, help="of the large picture")
    parser.add_argument("--out", type=Path, required=True, help="where the figures go (JSON)")
    given = parser.parse_args()
    target = device.choose(given.device)
    if target.type == "cpu":
        torch.set_num_threads(1)
    report = {
        "machine": machine.facts() | {"device": device.name(target)},
        "bar_of_a_step": BAR,
        "of_all_steps": f"with a preview every {EVERY} steps",
        "sketch": sketch(target),
        "sd15": sd15(target, given.steps),
    }
    text = json.dumps(report, indent=2)
    print(text)
    given.out.write_text(text + "\n", encoding="utf-8")


def sketch(target: torch.device) -> Figures:
    """The shipped model."""
    spec = model_spec(load().model[0])
    model = loader(spec.family)(spec, str(target))
    assert isinstance(model, Checkpoint)
    side, guidance = spec.width, load().model[0].guidance
    jobs = [job(spec.id, side, load().model[0].steps, guidance, seed) for seed in range(PICTURES)]
    return compared(model, {"factors": model.preview}, jobs)


def sd15(target: torch.device, steps: int) -> Figures:
    """Stable Diffusion 1.5 at its native size."""
    shape = ARCHITECTURES["sd15"]
    model = built(shape, target, device.dtype_for("auto", target), small=False)
    tiny = tiny_preview(model)
    assert tiny is not None
    asked = job("sd15", shape.side, steps, shape.guidance, 0)
    return compared(model, {"factors": model.preview, "tiny": tiny}, [asked])


def job(model: str, side: int, steps: int, guidance: float, seed: int) -> Job:
    """A square picture."""
    return Job(
        id=str(seed),
        model=model,
        task="generate",
        prompt=PROMPT,
        width=side,
        height=side,
        steps=steps,
        guidance=guidance,
        seeds=(seed,),
    )


def compared(model: Checkpoint, ways: dict[str, Preview], jobs: list[Job]) -> Figures:
    """The seconds of a step, and each kind of preview as shares of one and of a whole picture."""
    watch = Stopwatch(model.settle)
    turns = Turns(watch, ways)
    for each in track(jobs, jobs[0].model, transient=True):
        watched(replace(model, preview=turns), each, watch)
    step = statistics.median(watch.seconds["step"])
    figures: Figures = {"px": jobs[0].width, "step_seconds": neat(step)}
    for name, took in turns.medians().items():
        figures[name] = {
            "seconds": neat(took),
            "of_a_step": neat(took / step),
            "of_all_steps": neat(took / step / EVERY),
            "within_the_bar": took / step <= BAR,
        }
    return figures


if __name__ == "__main__":
    main()
