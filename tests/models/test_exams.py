"""The exams of the demo models, sat by one who draws: a perfect pupil, and flawed ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.demo import exams
from models.demo.captions import full_caption, plain_caption
from models.demo.drawing import draw
from models.demo.exams import Score, held_out
from models.demo.grade import GATE, passed, row
from models.demo.measures import Pixels
from models.demo.scenes import (
    FRAMES,
    SIDE,
    SIZES,
    WIDE,
    Frame,
    Scene,
    Thing,
    landscape,
    pair,
    several,
)

COUNT = 40
Flaw = Callable[[Scene], Scene]


@dataclass
class Draughtsman:
    """Draws what was composed for a prompt, but for a flaw."""

    flaw: Flaw = lambda scene: scene

    def paint(
        self, prompts: Sequence[str], seeds: object, guidance: object, frame: Frame
    ) -> list[Pixels]:
        scenes = [
            scene
            for make in (None, pair, several, landscape)
            for scene in held_out(COUNT, make, frame)
        ]
        known = {say(scene): scene for scene in scenes for say in sayings(scene)}
        return [np.asarray(draw(self.flaw(known[prompt]))) for prompt in prompts]

    def fill(self, picture: Image.Image, mask: object, prompt: str, seed: int) -> Pixels:
        scene = held_out(COUNT)[seed]
        (thing,) = scene.things
        middle = replace(thing, x=SIDE / 2, y=SIDE / 2, diameter=SIZES["medium"])
        return np.asarray(draw(self.flaw(replace(scene, things=(middle,)))))

    def round_trip(self, picture: Image.Image) -> Pixels:
        return np.asarray(picture) ^ 1  # one of 255 off


def sayings(scene: Scene) -> list[Callable[[Scene], str]]:
    return [full_caption] if scene.land or len(scene.things) > 1 else [full_caption, plain_caption]


def pupil(flaw: Flaw = lambda scene: scene) -> Any:
    return Draughtsman(flaw)


def repainted(scene: Scene) -> Scene:
    """Its things in the colours of each other, or in a wrong one."""
    colors = [thing.color for thing in scene.things]
    swapped = colors[::-1] if len(set(colors)) > 1 else ["teal"] * len(colors)
    things = zip(scene.things, swapped, strict=True)
    return replace(scene, things=tuple(replace(thing, color=color) for thing, color in things))


def one_less(scene: Scene) -> Scene:
    return replace(scene, things=scene.things[1:])


def at_another_time(scene: Scene) -> Scene:
    assert scene.land is not None
    time = "at night" if scene.land.time == "by day" else "by day"
    return replace(scene, land=replace(scene.land, time=time))


def misshapen(scene: Scene) -> Scene:
    def other(thing: Thing) -> Thing:
        return replace(thing, shape="ring" if thing.shape != "ring" else "car")

    return replace(scene, things=tuple(map(other, scene.things)))


def test_drawn_originals_pass_every_exam() -> None:
    painter, scenes = pupil(), held_out(COUNT)
    scores = (
        exams.adherence(painter, scenes)
        | exams.short_prompts(painter, scenes)
        | exams.in_frame(painter, "wide", WIDE, COUNT)
        | exams.pairs(painter, COUNT)
        | exams.counts(painter, COUNT)
        | exams.lands(painter, COUNT)
        | exams.inpainting(painter, COUNT)
        | exams.ceiling(painter, COUNT)
    )
    sat = {name: score for name, score in scores.items() if score.of and name != "outline IoU"}
    assert sat.pop("VAE, dB").value == pytest.approx(48.13, abs=0.1)  # 20 log10(255)
    assert {name for name, score in sat.items() if score.value < 1} == set()
    assert passed(sat, GATE, brief=True)
    assert not passed(sat, GATE)  # the pupil knows no guidance, and nobody may leave an exam out


@pytest.mark.parametrize("frame", FRAMES)
def test_a_pair_in_swapped_colors_fails(frame: Frame) -> None:
    assert exams.pairs(pupil(), COUNT, frame)["pairs: colors"].value == 1
    assert exams.pairs(pupil(repainted), COUNT, frame)["pairs: colors"].value == 0


def test_one_thing_too_few_is_noticed() -> None:
    assert exams.counts(pupil(one_less), COUNT)["counts: number"].value == 0
    wrong = exams.counts(pupil(repainted), COUNT)
    assert wrong["counts: number"].value > 0.8 > wrong["counts: number and colors"].value


def test_another_time_of_day_is_noticed_and_a_thing_that_is_missing() -> None:
    assert exams.lands(pupil(at_another_time), COUNT)["lands: time"].value == 0
    gone = exams.lands(pupil(lambda scene: replace(scene, things=())), COUNT)
    assert gone["lands: time"].value == gone["lands: ground"].value == 1
    assert gone["lands: color of the thing"].value == 0


def test_a_wrong_shape_costs_its_mark_and_no_other() -> None:
    scores = exams.adherence(pupil(misshapen), held_out(COUNT))
    assert scores["shape"].value == scores["all five"].value == 0
    assert scores["background"].value == scores["color"].value == 1
    assert not passed(scores, GATE, brief=True)
    filled = exams.inpainting(pupil(misshapen), COUNT)
    assert filled["inpaint: shape"].value == 0


def test_the_gate_is_printed_with_what_missed_it() -> None:
    assert row("shape", Score(0.912, 240), GATE) == "| shape | 0.91 | 0.85 passed | 240 |"
    assert row("shape", Score(0.1, 240), GATE) == "| shape | 0.10 | 0.85 MISSED | 240 |"
    assert row("outline IoU", Score(0.5, 3), GATE) == "| outline IoU | 0.50 |  | 3 |"
