"""Grades a trained folder on prompts it never saw: `python -m models.demo.grade DIR`.

Prints a table and exits 1 below the gate. The exams themselves are in `exams`; of a folder that
holds an enlarger, `sharpness` tells how much it gains.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from models.demo import exams
from models.demo.exams import Score, Scores, held_out
from models.demo.painter import Painter
from models.demo.scenes import TALL, WIDE
from models.demo.sharpness import comparison
from models.demo.sheet import sheet
from models.demo.train import shipped_vae

GATE = {
    "background": 0.98,
    "color": 0.97,
    "place": 0.95,
    "size": 0.93,
    "shape": 0.85,
    "pairs: colors": 0.85,
    "lands: ground": 0.95,
    "lands: time": 0.95,
    "lands: light": 0.80,
    "lands: color of the thing": 0.85,
    "lands: shape of the thing": 0.80,
    "inpaint: color": 0.90,
    "inpaint: shape": 0.60,
    "negative: before": 0.10,
    "negative: fall": 0.80,
    "gain of guidance: shape": 0.05,
    "VAE, dB": 33.0,
}


def examined(painter: Painter, count: int, *, brief: bool) -> Iterator[Scores]:
    """The scores of one exam after another."""
    scenes = held_out(count)
    yield exams.adherence(painter, scenes)
    if brief:
        yield exams.pairs(painter, count // 2) | exams.counts(painter, count // 4)
        yield exams.lands(painter, count // 4)
        return
    yield exams.short_prompts(painter, scenes[: count // 2])
    yield exams.in_frame(painter, "wide", WIDE, count // 2)
    yield exams.in_frame(painter, "tall", TALL, count // 2)
    yield exams.pairs(painter, count) | exams.counts(painter, count // 2)
    # One half of the landscapes has a thing in it, the other has the say on lights.
    yield exams.lands(painter, 2 * count) | exams.inpainting(painter, count)
    yield exams.negatives(painter, max(200, count))
    yield exams.guidance_gain(painter, scenes) | exams.ceiling(painter, count)
    yield {"seconds per picture": seconds_each(painter)}


def seconds_each(painter: Painter) -> Score:
    painter.paint(["a red circle"], [0])
    began = time.perf_counter()
    for seed in range(5):
        painter.paint(["a red circle on a blue background"], [seed])
    return Score((time.perf_counter() - began) / 5, 5)


def row(name: str, score: Score, gate: dict[str, float]) -> str:
    """ "| shape | 0.91 | 0.85 passed | 240 |"."""
    least = gate.get(name)
    verdict = ""
    if least is not None:
        verdict = f"{least:g} {'passed' if score.value >= least else 'MISSED'}"
    return f"| {name} | {score.value:.2f} | {verdict} | {score.of} |"


def passed(scores: Scores, gate: dict[str, float], *, brief: bool = False) -> bool:
    """Whether all that has a gate is good enough; briefly, all of it that was examined."""
    return all(
        scores[name].value >= least if name in scores else brief for name, least in gate.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--steps", type=int, help="of each picture (12)")
    parser.add_argument("--guidance", type=float, help="of each picture (4)")
    parser.add_argument("--json", type=Path, help="also write the scores here")
    parser.add_argument("--sheet", type=Path, help="also draw a labelled sheet of pictures (PNG)")
    parser.add_argument("--less", type=float, default=0.0, help="take so much off the gate")
    parser.add_argument("--brief", action="store_true", help="what a few prompts tell, quickly")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if (enlarger := given.folder / "model.safetensors").exists():
        for name, value in vars(given).items():
            if name not in ("folder", "prompts") and value != parser.get_default(name):
                parser.error(f"--{name} says nothing to an enlarger")
        print("\n".join(comparison(enlarger, shipped_vae(), given.prompts)))
        return
    guidance = 4.0 if given.guidance is None else given.guidance
    painter = Painter(given.folder, given.steps or 12, guidance)
    if given.sheet:
        sheet(painter, given.sheet)
    print("| measure | score | gate | n |\n|---|---|---|---|")
    scores: Scores = {}
    gate = {name: least - given.less for name, least in GATE.items()}
    for some in examined(painter, given.prompts, brief=given.brief):
        scores |= some
        print("\n".join(row(*item, gate) for item in some.items()), flush=True)
    if given.json:
        table = {name: asdict(score) for name, score in scores.items()}
        given.json.write_text(json.dumps(table, indent=2) + "\n")
    sys.exit(0 if passed(scores, gate, brief=given.brief) else 1)


if __name__ == "__main__":
    main()
