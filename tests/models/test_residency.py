"""Who is in memory: never more than fits, the least used goes first, the pinned stay."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from models import weights
from models.canvas import OutOfMemory, Unloadable
from models.contract import AnyEvent, Evicted, Loaded, ModelSpec
from models.residency import Residency

SIZES = {"a": 40, "b": 40, "c": 50, "huge": 500}


@dataclass
class Weights:
    """A model of which only the size matters."""

    size: int


@dataclass
class House:
    """A residency of 100 bytes, what it says, and a clock to turn."""

    pinned: str = ""
    keep_seconds: float = 0.0
    guess: Callable[[str], int] = SIZES.__getitem__
    now: float = 0.0
    room_on_device: int = 10_000
    events: list[AnyEvent] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.residency = Residency(
            [self.spec(name) for name in SIZES],
            100,
            load=self.load,
            expect=lambda spec: self.guess(spec.id),
            give_back=lambda: None,
            emit=self.events.append,
            clock=lambda: self.now,
        )

    def spec(self, name: str) -> ModelSpec:
        return ModelSpec(
            id=name,
            family="toy",
            width=64,
            height=64,
            pinned=name == self.pinned,
            keep_seconds=self.keep_seconds,
        )

    def load(self, spec: ModelSpec) -> tuple[Weights, AnyEvent]:
        if sum(SIZES[name] for name in self.models) + SIZES[spec.id] > self.room_on_device:
            raise OutOfMemory("the device is full")
        self.loads.append(spec.id)
        loaded = Loaded(spec.id, ("generate",), 0.1, (), SIZES[spec.id])
        return Weights(SIZES[spec.id]), loaded

    @property
    def models(self) -> set[str]:
        return set(self.residency.models)

    @property
    def gone(self) -> list[str]:
        return [event.model for event in self.events if isinstance(event, Evicted)]

    def ask(self, *names: str) -> None:
        for name in names:
            self.now += 1
            self.residency.get(name)


def test_what_is_there_is_not_loaded_again() -> None:
    house = House()
    house.ask("a", "b", "a")
    assert house.loads == ["a", "b"]
    assert house.gone == []


def test_the_least_recently_used_goes() -> None:
    house = House()
    house.ask("a", "b", "a", "c")
    assert house.models == {"a", "c"}
    assert house.gone == ["b"]
    evicted, loaded = house.events[-2:]  # in this order, for whoever counts what is there
    assert isinstance(evicted, Evicted)
    assert isinstance(loaded, Loaded)
    house.ask("b")
    assert house.models == {"b", "c"}


def test_the_pinned_stay() -> None:
    house = House(pinned="a")
    house.ask("a", "b", "c")
    assert house.models == {"a", "c"}
    house.now += 1e9
    house.residency.expire()
    assert "a" in house.residency


def test_what_can_never_fit_is_refused_and_costs_nobody_the_place() -> None:
    house = House()
    house.ask("a")
    with pytest.raises(Unloadable, match="huge takes"):
        house.residency.get("huge")
    assert house.models == {"a"}


def test_measured_sizes_count_and_not_what_was_expected() -> None:
    house = House(guess=lambda name: 1)
    house.ask("a", "b", "c")  # the third turns out too large once it is there
    assert house.models == {"b", "c"}


def test_a_device_with_less_room_than_the_budget() -> None:
    house = House(room_on_device=60)
    house.ask("a", "b")
    assert house.models == {"b"}
    house.room_on_device = 30
    with pytest.raises(Unloadable, match="a does not fit the device: the device is full"):
        house.residency.get("a")


def test_what_is_not_used_is_given_up_in_time() -> None:
    house = House(keep_seconds=10)
    assert house.residency.patience() is None
    house.ask("a")
    house.now += 4
    house.ask("b")
    assert house.residency.patience() == 5
    house.now += 5
    house.residency.expire()
    assert house.models == {"b"}
    house.now += 100
    house.residency.touch(["b"])
    house.residency.expire()
    assert house.models == {"b"}
    assert House().residency.patience() is None


def test_an_unknown_name() -> None:
    with pytest.raises(Unloadable, match="nobody"):
        House().residency.get("nobody")


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=30), st.sampled_from(["", "a", "b"]))
def test_it_never_holds_more_than_fits(names: list[str], pinned: str) -> None:
    house = House(pinned=pinned)
    for name in names:
        house.ask(name)
        assert name in house.residency
        assert sum(SIZES[each] for each in house.models) <= 100
    assert sorted([*house.gone, *house.models]) == sorted(house.loads)
    assert pinned not in house.gone


def test_room_is_told_by_the_files(tmp_path: Path) -> None:
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
    save_file({"x": np.zeros((10, 10)), "y": np.zeros(5)}, tmp_path / "unet" / "m.safetensors")
    save_file({"x": np.zeros((10, 10))}, tmp_path / "unet" / "m.fp16.safetensors")
    save_file({"x": np.zeros(9)}, tmp_path / "unet" / "m.fp16-00001-of-00002.safetensors")
    save_file({"z": np.zeros(7)}, tmp_path / "vae" / "only.fp16.safetensors")
    (tmp_path / "vae" / "broken.fp16.safetensors").write_bytes(b"\xff" * 20)
    save_file({"x": np.zeros(1000)}, tmp_path / "whole.safetensors")  # the same once more, in one
    assert weights.numbers(tmp_path) == 0
    index = {name: ["diffusers", "Some"] for name in ("unet", "vae")} | {"_class_name": "Some"}
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"safety_checker": [None, None]}))
    assert weights.numbers(tmp_path) == 105 + 7
    assert weights.numbers(tmp_path, without=("un",)) == 7
    assert weights.numbers(tmp_path / "nowhere") == 0
