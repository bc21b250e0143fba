"""Grades a trained folder on prompts it never saw: `python -m models.demo.grade DIR`.

Prints a table and exits 1 below the gate. What a picture shows is measured in `measures`.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from models.demo.captions import full_caption, plain_caption
from models.demo.measures import Pixels, look, mark, middle, most_common_color, share_of
from models.demo.painter import Painter
from models.demo.scenes import HELD_OUT, PALETTE, RELATIONS, SHAPES, SIDE, Scene, pair, single
from models.demo.sheet import sheet

GATE = {"background": 0.98, "color": 0.95, "place": 0.90, "size": 0.85, "shape": 0.50}
FILLED = 0.1  # least share of the mask that has to be in the asked colour

Scores = dict[str, float]


def held_out(count: int) -> list[Scene]:
    return [single(Random(HELD_OUT + index)) for index in range(count)]


def adherence(painter: Painter, scenes: Sequence[Scene], guidance: float | None = None) -> Scores:
    """Shares of pictures that show what their full caption asks for, and of each shape."""
    pictures = painter.paint(
        [full_caption(scene) for scene in scenes], range(len(scenes)), guidance
    )
    sights = [look(picture) for picture in pictures]
    marks = [asdict(mark(sight, scene)) for sight, scene in zip(sights, scenes, strict=True)]
    scores = {name: mean([row[name] for row in marks]) for name in GATE}
    scores["all five"] = mean([all(row.values()) for row in marks])
    scores["outline IoU"] = mean([sight.fit for sight in sights])
    for shape in SHAPES:
        rows = [
            row for row, scene in zip(marks, scenes, strict=True) if scene.things[0].shape == shape
        ]
        scores[f"shape: {shape}"] = mean([row["shape"] for row in rows])
    return scores


def short_prompts(painter: Painter, scenes: Sequence[Scene]) -> Scores:
    """The same for prompts that name neither size nor place."""
    pictures = painter.paint([plain_caption(scene) for scene in scenes], range(len(scenes)))
    marks = [mark(look(picture), scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return {
        f"short: {name}": mean([getattr(row, name) for row in marks])
        for name in ("background", "color", "shape")
    }


def pairs(painter: Painter, count: int) -> Scores:
    """Share of pictures of two things with both colours on their own sides."""
    scenes = [pair(Random(HELD_OUT + index)) for index in range(count)]
    pictures = painter.paint([full_caption(scene) for scene in scenes], range(count))
    return {
        "pairs: colors": mean([both_sides(*both) for both in zip(pictures, scenes, strict=True)])
    }


def both_sides(picture: Pixels, scene: Scene) -> bool:
    dx, dy = RELATIONS[scene.relation or ""]
    upright = picture if dx else picture.transpose(1, 0, 2)
    halves = [upright[:, : SIDE // 2], upright[:, SIDE // 2 :]]
    ordered = halves if dx + dy < 0 else halves[::-1]
    seen = [most_common_color(half, besides=scene.background) for half in ordered]
    return seen == [thing.color for thing in scene.things]


def inpainting(painter: Painter, count: int) -> Scores:
    """Share of plain pictures that get the asked colour inside a mask in the middle."""
    mask, hits = middle(), 0
    for index, scene in enumerate(held_out(count)):
        plain = Image.new("RGB", (SIDE, SIDE), PALETTE[scene.background])
        picture = painter.fill(plain, mask, plain_caption(scene), index)
        hits += share_of(picture, scene.things[0].color, mask) >= FILLED
    return {"inpaint: color": hits / count}


def guidance_gain(painter: Painter, scenes: Sequence[Scene]) -> Scores:
    """Share of pictures with all five right at guidance 1 and at guidance 3."""
    return {
        f"all five at guidance {g:g}": adherence(painter, scenes, g)["all five"] for g in (1.0, 3.0)
    }


def seconds_each(painter: Painter) -> float:
    painter.paint(["a red circle"], [0])
    began = time.perf_counter()
    for seed in range(5):
        painter.paint(["a red circle on a blue background"], [seed])
    return (time.perf_counter() - began) / 5


def mean(values: Sequence[bool] | Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def report(scores: Scores) -> bool:
    """Prints the table; true when every gated score passes."""
    for name, value in scores.items():
        verdict = (
            f"  gate {GATE[name]:.2f}  {'pass' if value >= GATE[name] else 'FAIL'}"
            if name in GATE
            else ""
        )
        print(f"{name:24} {value:6.3f}{verdict}")
    return all(scores[name] >= least for name, least in GATE.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--json", type=Path, help="also write the scores here")
    parser.add_argument("--sheet", type=Path, help="also draw a labelled sheet of pictures (PNG)")
    parser.add_argument("--brief", action="store_true", help="the gated scores only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    painter = Painter(given.folder, given.steps, given.guidance)
    scenes = held_out(given.prompts)
    scores = adherence(painter, scenes)
    if not given.brief:
        scores |= short_prompts(painter, scenes) | pairs(painter, given.prompts)
        scores |= inpainting(painter, max(1, given.prompts // 5)) | guidance_gain(painter, scenes)
        scores |= {"seconds per picture": seconds_each(painter)}
    if given.sheet:
        sheet(painter, given.sheet)
    if given.json:
        given.json.write_text(json.dumps({"prompts": given.prompts, **scores}, indent=2) + "\n")
    sys.exit(0 if report(scores) else 1)


if __name__ == "__main__":
    main()
