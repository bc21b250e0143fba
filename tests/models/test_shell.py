"""A shell is the pipeline it was made from, with a place and a scheduler of its own."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.canvas import Call
from models.checkpoint import Checkpoint
from models.shell import own_copy, shell
from tests.models.stock import STOCK

HERE = torch.device("cpu")


def unasked(call: Call) -> Any:
    raise AssertionError(call)


def made(model: Checkpoint) -> tuple[type[Any], Any]:
    kind = next(iter(model.pipelines.values()))
    return kind, shell(model.pipe, kind, unasked, print, HERE)


@pytest.mark.parametrize("name", STOCK)
def test_it_is_told_where_it_runs_and_looks_for_it_in_no_module(
    model_of: Callable[[str], Checkpoint], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, own = made(model_of(name))
    assert own._execution_device == model_of(name).pipe._execution_device
    assert isinstance(own, kind)
    assert type(own).__name__ == kind.__name__
    monkeypatch.delattr(torch.nn.Module, "modules")
    assert own._execution_device == HERE
    with pytest.raises(AttributeError):
        _ = model_of(name).pipe._execution_device  # as diffusers does it


def test_canvases_share_the_class_of_their_shells(model_of: Callable[[str], Checkpoint]) -> None:
    (_, first), (_, second) = made(model_of("sd")), made(model_of("sd"))
    assert type(first) is type(second)
    assert first.scheduler is not second.scheduler


@pytest.mark.parametrize("name", STOCK)
def test_a_scheduler_of_its_own_leaves_the_checkpoints_as_it_was(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    mother = model_of(name).pipe.scheduler
    before = copy.deepcopy(vars(mother))
    for own in (own_copy(mother), own_copy(mother)):
        own.config.flow_shift = 7.0  # as some do in set_timesteps
        extra = {"mu": 0.5} if mother.config.get("use_dynamic_shifting") else {}
        own.set_timesteps(3, **extra)
        sample = torch.ones(1, 4, 8, 8)
        for time in own.timesteps:
            sample = own.step(sample / 2, time, sample, return_dict=False)[0]
    assert vars(mother).keys() == before.keys()
    assert getattr(mother.config, "flow_shift", None) != 7.0
    for part, value in vars(mother).items():
        assert (
            torch.equal(value, before[part])
            if isinstance(value, torch.Tensor)
            else (value == before[part])
        ), part
