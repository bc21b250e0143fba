"""What the network that enlarges the demo models' pictures is taught, and what it has learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.demo import grade
from models.demo.drawing import draw
from models.demo.enlarging import (
    TIMES,
    enlarger_loss,
    finish,
    new_enlarger,
    pairs,
    scene_of,
)
from models.demo.muon import optimizers
from models.demo.recipe import EnlargerRecipe
from models.demo.scenes import HELD_OUT
from models.demo.sharpness import decibels, lanczos
from models.demo.train import shipped_vae
from models.enlarging import Enlarger

CPU = torch.device("cpu")
SMALL = replace(EnlargerRecipe(), scenes=1, cuts=2)
SHIPPED = Path(__file__).parents[2] / "models" / "demo" / "enlarger" / "model.safetensors"


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_drawn_larger_is_the_same_scene(seed: int) -> None:
    scene = scene_of(seed)
    large = draw(scene, TIMES)
    assert large.size == (scene.frame[0] * TIMES, scene.frame[1] * TIMES)
    small = np.asarray(large.reduce(TIMES), dtype=int)
    off = np.abs(small - np.asarray(draw(scene), dtype=int))
    assert off.mean() < 1.5
    assert np.percentile(off, 99) < 60  # edges are drawn to a third of a pixel


def test_both_cuts_of_a_pair_show_the_same_part_of_a_scene() -> None:
    vae = shipped_vae()
    small, large = pairs(vae, SMALL, 3)
    assert small.shape == (2, 3, SMALL.cut, SMALL.cut)
    assert large.shape == (2, 3, SMALL.cut * TIMES, SMALL.cut * TIMES)
    again = pairs(vae, SMALL, 3)
    assert torch.equal(small, again[0])
    assert torch.equal(large, again[1])
    apart = functional.avg_pool2d(large, TIMES) - small
    assert apart.abs().mean() < 0.03
    shifted = functional.avg_pool2d(large.roll(3 * TIMES, -1), TIMES) - small
    assert shifted.abs().mean() > 1.5 * apart.abs().mean()


def test_it_learns_and_its_file_enlarges(tmp_path: Path) -> None:
    vae, network = shipped_vae(), new_enlarger(SMALL)
    loss, movers = enlarger_loss(network, vae, SMALL), optimizers(network, SMALL.lr)
    losses: list[float] = []
    for step in range(12):
        value = loss(step % 2)
        value.backward()
        for mover in movers:
            mover.step()
        network.zero_grad()
        losses.append(value.item())
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    finish(network, file := tmp_path / "model.safetensors")
    enlarger = Enlarger.load(file, CPU)
    picture = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.allclose(
            enlarger.run(picture), network(picture).clamp(0, 1), atol=0.01
        )  # half precision is enough
    assert enlarger.scale == TIMES


def test_the_shipped_one_is_sharper_than_lanczos() -> None:
    assert SHIPPED.stat().st_size <= 2e6
    enlarger, vae = Enlarger.load(SHIPPED, CPU), shipped_vae()
    seeds = range(HELD_OUT, HELD_OUT + 12)
    for noise in (0.0, 0.1):
        ours = decibels(enlarger.run, vae, seeds, noise)
        theirs = decibels(lanczos(TIMES), vae, seeds, noise)
        assert ours > theirs + 0.5, (ours, theirs)


def test_an_enlarger_is_graded_by_nothing_that_says_nothing_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["grade", str(SHIPPED.parent), "--steps", "3"])
    with pytest.raises(SystemExit):
        grade.main()
    assert "--steps says nothing to an enlarger" in capsys.readouterr().err
