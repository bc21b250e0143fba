"""How far a picture painted in company lies from the same one painted alone, for every family.

Tiny random checkpoints: what is measured is the rounding of merged forwards. Differences are of
the decoded floats in 0 … 1, before they become bytes, and of the bytes.
Run it with `python -m bench.families --out bench/results/NAME.json`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from models.vision import LIBRARY as LIBRARY
from bench import machine
from models import checkpoint, families
from models.canvas import Easel
from models.contract import AnyEvent, Dtype, Failed, Image, Job, ModelSpec
from models.studio import Studio
from tests.models import tiny

WIDTH, HEIGHT = 128, 64
SEEDS = range(4)
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
CHECKPOINTS = {
    "sd": "sd",
    "sd_inpaint": "sd",
    "pix2pix": "sd",
    "sdxl": "sdxl",
    "sd3": "sd3",
    "flux": "flux",
    "flux_schnell": "flux",
    "flux_fill": "flux",
    "flux_kontext": "flux",
    "flux2": "flux2",
    "flux2_klein": "flux2",
    "qwen_image": "qwen-image",
    "z_image": "z-image",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the figures go (JSON)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = {
        dtype: {name: measured(name, family, dtype) for name, family in CHECKPOINTS.items()}
        for dtype in DTYPES
    }
    report = {"machine": machine.facts(), "size": f"{WIDTH}x{HEIGHT}", "checkpoints": rows}
    given.out.write_text(json.dumps(report, indent=2) + "\n")


def measured(name: str, family: str, dtype: Dtype) -> dict[str, Any]:
    """The figures of one checkpoint in one precision."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        getattr(tiny, name)().save_pretrained(folder)
        spec = ModelSpec(
            id="tiny", family=family, path=folder, dtype=dtype, width=WIDTH, height=HEIGHT
        )
        model = families.loader(family)(spec, "cpu")
        jobs = [job(task, seed) for task in model.tasks for seed in SEEDS]
        alone = [painted(model, [each])[each.id] for each in jobs]
        company = painted(model, jobs)
    together = [company[each.id] for each in jobs]
    off = [float((a - b).abs().max()) for a, b in zip(alone, together, strict=True)]
    levels = [(bytes_of(a) - bytes_of(b)).abs() for a, b in zip(alone, together, strict=True)]
    row = {
        "pictures": len(jobs),
        "float": max(off),
        "levels": max(int(each.max()) for each in levels),
        "bytes off": sum(int((each > 0).sum()) for each in levels) / sum(map(torch.numel, levels)),
    }
    print(f"{dtype} {name:14} {row}")
    return row


def job(task: Any, seed: int) -> Job:
    return Job(
        id=f"{task}-{seed}",
        model="tiny",
        task=task,
        prompt=f"an owl {seed}",
        negative_prompt="grey",
        width=WIDTH,
        height=HEIGHT,
        steps=4 + seed,
        guidance=2.0 + seed,
        strength=1.0 if task == "inpaint" else 0.8,
        seeds=(seed,),
        inputs=0 if task == "generate" else 1,
        masked=task == "inpaint",
    )


def painted(model: Any, jobs: Sequence[Job]) -> dict[str, torch.Tensor]:
    """The decoded floats of each job, all painted together."""
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    for kind in ("forward", "decode"):
        studio.cap("tiny", kind, len(jobs))
    base = Image(WIDTH, HEIGHT, "RGB", bytes(range(256)) * (WIDTH * HEIGHT * 3 // 256))
    half = WIDTH * HEIGHT // 2
    mask = Image(WIDTH, HEIGHT, "L", bytes(half) + b"\xff" * half)
    with kept() as pictures:
        for each in jobs:
            studio.start(model, each, 0, [base][: each.inputs], mask if each.masked else None)
        while len(studio):
            studio.tick()
    assert not [event for event in events if isinstance(event, Failed)]
    return pictures


@contextmanager
def kept() -> Iterator[dict[str, torch.Tensor]]:
    """Catches what is decoded, by the id of its job."""
    pictures: dict[str, torch.Tensor] = {}
    last: list[torch.Tensor] = []  # only one canvas runs at any time
    paint, finish = checkpoint.Checkpoint.paint, checkpoint.delivered

    def painting(self: checkpoint.Checkpoint, job: Job, *rest: Any) -> Image:
        image = paint(self, job, *rest)
        pictures[job.id] = last.pop()
        return image

    def finishing(picture: torch.Tensor, base: Image | None, easel: Easel) -> Image:
        last.append(picture.float().clone())
        return finish(picture, base, easel)

    with (
        patch.object(checkpoint.Checkpoint, "paint", painting),
        patch.object(checkpoint, "delivered", finishing),
    ):
        yield pictures


def bytes_of(picture: torch.Tensor) -> torch.Tensor:
    return (picture.clamp(0, 1) * 255).round().int()


if __name__ == "__main__":
    main()
