"""Pipelines without a family of their own: the same jobs, events and cancel, unmerged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from models.contract import AnyEvent, Cancelled, Failed, Finished, Job, ModelSpec, Step
from models.families import generic
from models.studio import Studio
from tests.models.sitter import Run

SIZE = 64


def job(name: str, **changes: object) -> Job:
    defaults: dict[str, object] = {
        "id": name,
        "model": "other",
        "task": "generate",
        "prompt": f"a {name}",
        "width": SIZE,
        "height": SIZE,
        "steps": 4,
        "guidance": 3.5,
        "seeds": (7,),
    }
    return Job(**(defaults | changes))


@pytest.fixture
def model(other_folder: Path) -> generic.Generic:
    spec = ModelSpec(id="other", family="generic", path=str(other_folder), width=SIZE, height=SIZE)
    return generic.load(spec, "cpu")


def run(model: generic.Generic, *jobs: Job, cancel: str = "") -> list[AnyEvent]:
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    studio.cap("other", "forward", 8)
    for asked in jobs:
        studio.start(model, asked, 0, [], None)
    studio.tick()
    if cancel:
        studio.cancel(cancel, 0)
    while len(studio):
        studio.tick()
    return events


def pixels(events: list[AnyEvent], name: str) -> np.ndarray:
    (event,) = [e for e in events if isinstance(e, Finished | Failed) and e.job == name]
    assert isinstance(event, Finished), event
    return np.frombuffer(event.image.pixels, np.uint8).reshape(SIZE, SIZE, 3)


def stock(folder: Path, asked: Job) -> np.ndarray:
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        prompt=asked.prompt,
        height=SIZE,
        width=SIZE,
        num_inference_steps=asked.steps,
        guidance_scale=asked.guidance,
        generator=torch.Generator("cpu").manual_seed(asked.seeds[0]),
    ).images[0]
    return np.asarray(image)


def test_interleaved_it_equals_the_stock_pipeline(
    model: generic.Generic, other_folder: Path
) -> None:
    owl, fox = job("owl"), job("fox", steps=7, guidance=2.0, seeds=(8,))
    events = run(model, owl, fox, job("cat", steps=9), cancel="cat")
    for asked in (owl, fox):
        difference = pixels(events, asked.id).astype(int) - stock(other_folder, asked)
        assert np.abs(difference).max() <= 1
    assert Cancelled("cat", 0) in events
    assert [e.step for e in events if isinstance(e, Step) and e.job == "owl"] == [1, 2, 3, 4]


@pytest.mark.parametrize("end", [Run.finish, Run.cancel])
def test_nothing_of_a_picture_waits_for_the_collector(
    model: generic.Generic, end: Callable[[Run], Any]
) -> None:
    run(model, job("owl"))
    assert Run(model).frees(job("fox"), end)


def test_what_it_cannot_do_is_a_bad_job(model: generic.Generic) -> None:
    assert model.tasks == ("generate",)
    (event,) = run(model, job("owl", task="inpaint"))
    assert isinstance(event, Failed)
    assert event.fault.kind == "bad_job"


def test_a_picture_that_is_black_all_over_is_an_error(
    model: generic.Generic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dark(z: torch.Tensor, return_dict: bool = True, generator: object = None) -> object:
        return (torch.full((len(z), 3, SIZE, SIZE), -1.0),)

    monkeypatch.setattr(model.pipe.vae, "decode", dark)
    (event,) = [event for event in run(model, job("owl")) if isinstance(event, Failed)]
    assert event.fault.kind == "not_finite"
