"""What was read of a prompt is read once, and nothing else is taken for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

from models.checkpoint import Checkpoint
from models.recall import Recall, comparable
from tests.models.sitter import Sitter
from tests.models.stock import STOCK, job, mask, picture, raw


def paint(model: Checkpoint, task: str, prompt: str = "owl", **changes: Any) -> bytes:
    asked = job("owl", task, prompt=prompt, negative_prompt="", strength=1.0, **changes)
    inputs = [raw(picture(1))] * asked.inputs
    return model.paint(asked, 0, inputs, raw(mask()) if asked.masked else None, Sitter()).pixels


class Reader:
    """Counts how often a model's text encoders are called."""

    def __init__(self, model: Checkpoint) -> None:
        self.calls = 0
        parts = [p for name, p in model.pipe.components.items() if name.startswith("text_encoder")]
        self.hooks = [part.register_forward_pre_hook(self.count) for part in parts if part]

    def count(self, *_: object) -> None:
        self.calls += 1

    def since(self) -> int:
        self.calls, seen = 0, self.calls
        return seen

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize("name", [name for name in STOCK if "edit" not in name])
def test_a_prompt_is_read_once_and_the_picture_is_the_same_to_the_bit(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    model = replace(model_of(name), recall=Recall())
    reader = Reader(model)
    task = next(iter(STOCK[name]))
    first = paint(model, task)
    assert reader.since() > 0
    assert paint(model, task) == first
    assert reader.since() == 0
    other = paint(model, task, seeds=(8,))
    assert reader.since() == 0
    assert paint(replace(model, recall=Recall()), task, seeds=(8,)) == other
    reader.since()
    paint(model, task, prompt="another")
    assert reader.since() > 0
    reader.close()


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3"])
def test_a_negative_prompt_is_read_once_beside_any_other(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    model = replace(model_of(name), recall=Recall())
    reader = Reader(model)
    for task in STOCK[name]:
        alone = replace(model, recall=Recall())
        first = paint(alone, task, prompt="one")
        both = reader.since()
        assert paint(alone, task, prompt="two") != first
        assert 0 < reader.since() <= both / 2
    reader.close()


def test_a_prompt_that_is_read_with_an_image_is_read_each_time(
    model_of: Callable[[str], Checkpoint],
) -> None:
    model = replace(model_of("qwen_edit"), recall=Recall())
    first = paint(model, "edit")
    white = [raw(Pillow.new("RGB", picture(1).size, "white"))]
    asked = job("owl", "edit", prompt="owl", negative_prompt="", strength=1.0)
    assert model.paint(asked, 0, white, None, Sitter()).pixels != first
    assert len(model.recall) == 0


def test_adapters_of_the_text_encoder_are_part_of_what_is_compared() -> None:
    recall, own = Recall(), Pipe()
    for dress in ((), (("ink", 1.0),), (("ink", 0.5),)):
        plain = Pipe()
        recall.attach(plain, dress)
        plain.encode_prompt("owl")
        own.read += plain.read
    assert own.read == 3


class Pipe:
    """A pipeline, as far as reading goes."""

    def __init__(self) -> None:
        self.read = 0

    def encode_prompt(self, prompt: Any, scale: float = 1.0) -> tuple[torch.Tensor, list[Any]]:
        self.read += 1
        return torch.zeros(4), [torch.ones(4)]


def test_the_least_recently_used_goes_first() -> None:
    recall, pipe = Recall(most=2), Pipe()
    recall.attach(pipe, None)
    for prompt in ("a", "b", "a", "c", "a"):
        pipe.encode_prompt(prompt)
    assert pipe.read == 3
    pipe.encode_prompt(prompt="b", scale=1.0)
    assert pipe.read == 4
    assert len(recall) == 2


def test_room_is_counted_in_bytes() -> None:
    recall, pipe = Recall(most_bytes=70), Pipe()
    recall.attach(pipe, None)
    for prompt in ("a", "b", "c"):
        pipe.encode_prompt(prompt)
    assert (len(recall), recall.size) == (2, 64)
    small, pipe = Recall(most_bytes=10), Pipe()
    small.attach(pipe, None)
    pipe.encode_prompt("d")
    assert len(small) == 0


def test_what_a_pipeline_adds_to_a_list_is_not_remembered() -> None:
    recall, pipe = Recall(), Pipe()
    recall.attach(pipe, None)
    for _ in range(3):
        _, found = pipe.encode_prompt("owl")
        assert len(found) == 1
        found.append("more")


@pytest.mark.parametrize("value", [torch.zeros(1), [torch.zeros(1)], object(), {"a": object()}])
def test_what_cannot_be_compared_is_not(value: object) -> None:
    assert comparable({"prompt": "x", "image": value}) is None


def test_one_and_true_and_text_are_different() -> None:
    kept = {comparable({"a": value}) for value in (1, True, "1", 1.0, None, [1], (1,))}
    assert len(kept) == 7
