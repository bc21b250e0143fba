"""The shipped model through the studio: its pictures are what was asked for, by their pixels.

The bars lie well under the gate that the model passed before it shipped (models/demo/README.md).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Finished, Image, Job, ModelSpec, Task
from models.demo.captions import full_caption, plain_caption
from models.demo.exams import both_sides, held_out
from models.demo.measures import Marks, look, mark, middle, share_of, tally, view_of
from models.demo.scenes import (
    PALETTE,
    SHAPES,
    SIDE,
    SQUARE,
    TALL,
    WIDE,
    Frame,
    Scene,
    landscape,
    pair,
    several,
)
from models.families import sd
from models.studio import Studio

FOLDER = Path(__file__).parents[2] / "models" / "demo" / "sketch"
STEPS = 8


@pytest.fixture(scope="module")
def sketch() -> Checkpoint:
    spec = ModelSpec(id="sketch", family="sd", path=str(FOLDER), width=SIDE, height=SIDE)
    return sd.load(spec, "cpu")


def wish(
    number: int,
    prompt: str,
    guidance: float = 4.0,
    task: Task = "generate",
    frame: Frame = SQUARE,
    negative: str = "",
) -> Job:
    return Job(
        id=str(number),
        model="sketch",
        task=task,
        prompt=prompt,
        negative_prompt=negative,
        width=frame[0],
        height=frame[1],
        steps=STEPS,
        guidance=guidance,
        seeds=(number,),
        inputs=0 if task == "generate" else 1,
        masked=task == "inpaint",
    )


def paint(
    model: Checkpoint,
    jobs: Sequence[Job],
    base: Image | None = None,
    mask: Image | None = None,
) -> list[np.ndarray]:
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    studio.cap("sketch", "forward", 8)
    for job in jobs:
        studio.start(model, job, 0, [base] if base else [], mask)
    while len(studio):
        studio.tick()
    images = {event.job: event.image for event in events if isinstance(event, Finished)}
    return [
        np.frombuffer(images[job.id].pixels, np.uint8).reshape(job.height, job.width, 3)
        for job in jobs
    ]


def painted(model: Checkpoint, asked: Sequence[Scene], guidance: float = 4.0) -> list[np.ndarray]:
    return paint(
        model,
        [
            wish(i, full_caption(scene), guidance, frame=scene.frame)
            for i, scene in enumerate(asked)
        ],
    )


def right(model: Checkpoint, asked: Sequence[Scene], guidance: float = 4.0) -> list[Marks]:
    pictures = painted(model, asked, guidance)
    return [mark(look(picture), scene) for picture, scene in zip(pictures, asked, strict=True)]


def test_it_is_small_and_plain() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    assert not any("/" + "work" in path.read_text() for path in files if path.suffix == ".json")


BARS = {"background": 23, "color": 22, "place": 22, "size": 22, "shape": 20}  # of 24


def test_prompts_are_followed_and_guidance_helps(sketch: Checkpoint) -> None:
    asked = held_out(24)
    with_guidance, without = right(sketch, asked, 3.0), right(sketch, asked, 1.0)
    for name, bar in BARS.items():
        assert sum(getattr(marks, name) for marks in with_guidance) >= bar, name
    assert sum(map(flawless, with_guidance)) > sum(map(flawless, without))


def flawless(marks: Marks) -> bool:
    return all(getattr(marks, name) for name in BARS)


def test_every_shape_of_the_card_is_drawn(sketch: Checkpoint) -> None:
    centred = [scene for scene in held_out(400) if scene.things[0].size != "small"]
    asked = [next(scene for scene in centred if scene.things[0].shape == shape) for shape in SHAPES]
    assert sum(marks.shape for marks in right(sketch, asked)) >= len(SHAPES) - 2


@pytest.mark.parametrize("frame", [WIDE, TALL])
def test_pictures_are_composed_for_their_frame(sketch: Checkpoint, frame: Frame) -> None:
    marks = right(sketch, held_out(10, frame=frame))
    for name in ("background", "color", "place"):
        assert sum(getattr(one, name) for one in marks) >= 8, name


def test_pairs_stand_where_they_should(sketch: Checkpoint) -> None:
    asked = held_out(10, pair)
    pictures = painted(sketch, asked)
    assert sum(both_sides(*both) for both in zip(pictures, asked, strict=True)) >= 8


def test_it_counts_to_three(sketch: Checkpoint) -> None:
    asked = held_out(10, several)
    seen = [tally(picture)[2] for picture in painted(sketch, asked)]
    assert sum(n == len(scene.things) for n, scene in zip(seen, asked, strict=True)) >= 8


def test_landscapes_are_of_their_ground_and_hour(sketch: Checkpoint) -> None:
    asked = held_out(10, landscape)
    seen = [view_of(picture) for picture in painted(sketch, asked)]
    lands = [(scene.land.ground, scene.land.time) for scene in asked if scene.land]
    assert sum(one == other for one, other in zip(seen, lands, strict=True)) >= 8


def test_a_negative_colour_stays_away(sketch: Checkpoint) -> None:
    def reds(negative: str) -> int:
        jobs = [wish(i, "a large circle", negative=negative) for i in range(16)]
        everywhere = np.ones((SIDE, SIDE), bool)
        return sum(share_of(one, "red", everywhere) >= 0.03 for one in paint(sketch, jobs))

    assert reds("red") < reds("")


def test_inpainting_puts_the_asked_colour_inside_the_mask(sketch: Checkpoint) -> None:
    """What lies outside is the server's promise, and tested there."""
    asked = [scene for scene in held_out(60) if scene.background == "blue"][:4]
    plain = Image(SIDE, SIDE, "RGB", bytes(PALETTE["blue"]) * SIDE**2)
    hole = middle()
    mask = Image(SIDE, SIDE, "L", np.where(hole, 255, 0).astype(np.uint8).tobytes())
    jobs = [wish(i, plain_caption(scene), task="inpaint") for i, scene in enumerate(asked)]
    pictures = paint(sketch, jobs, plain, mask)
    shares = [
        share_of(picture, scene.things[0].color, hole)
        for picture, scene in zip(pictures, asked, strict=True)
    ]
    assert len(shares) == 4
    assert sum(share >= 0.1 for share in shares) >= 3
