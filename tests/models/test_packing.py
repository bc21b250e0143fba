"""Weights in oneDNN's order change last digits at most, and are used by what the way runs alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from models import onednn, packing, tuning
from models.checkpoint import Checkpoint
from models.contract import ModelSpec, Offload, Tuning
from models.merge import RULES, Forward, plainly
from models.packing import with_packs
from tests.models.commission import shipped
from tests.models.sitter import load

CPU = torch.device("cpu")
PACKED = "mkldnn::_convolution_pointwise"

pytestmark = pytest.mark.skipif(not onednn.usable(), reason="needs oneDNN with AVX-512")


@pytest.fixture(scope="module")
def sketch() -> Checkpoint:
    return shipped("sketch", "sd").checkpoint


class Seen(TorchDispatchMode):
    """Notes what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def packed_calls(work: Callable[[], Any]) -> int:
    with Seen() as seen:
        work()
    return seen.names.count(PACKED)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rows", [1, 2, 3, 16])
@pytest.mark.parametrize("size", [(16, 16), (24, 16), (40, 8)])
def test_sketch_predicts_the_same_to_its_last_digits(
    sketch: Checkpoint, rows: int, size: tuple[int, int]
) -> None:
    unet = sketch.pipe.unet
    arguments = {
        "sample": torch.randn(rows, 4, *size, generator=torch.Generator().manual_seed(rows)),
        "timestep": torch.linspace(1, 999, rows),
        "encoder_hidden_states": torch.randn(rows, 32, 128),
        "return_dict": False,
    }
    forward = Forward(unet, arguments, RULES["UNet2DConditionModel.forward"])
    way = with_packs(unet, plainly)
    with torch.no_grad():
        (expected,), (found,) = plainly(forward), way(forward)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    convolutions = sum(isinstance(part, nn.Conv2d) for part in unet.modules())
    assert packed_calls(lambda: way(forward)) == (convolutions if rows > 1 else 0)
    assert packed_calls(lambda: plainly(forward)) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (1, 3), "padding": (0, 1), "bias": False},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 3, "groups": 4},
        {"kernel_size": 1},
    ],
    ids=str,
)
def test_every_kind_of_convolution_is_the_same_to_its_last_digits(settings: dict[str, Any]) -> None:
    conv, image = nn.Conv2d(128, 96, **settings), torch.randn(5, 128, 14, 10)
    expected = conv(image)
    forward = Forward(conv, {"input": image})
    with torch.no_grad():
        found = with_packs(conv, plainly)(forward)
        assert packed_calls(lambda: with_packs(conv, plainly)(forward)) == 1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3).bfloat16(),
        nn.Conv3d(4, 4, 1),
    ],
    ids=["same", "reflect", "half", "video"],
)
def test_what_cannot_be_packed_stays_as_it_is(conv: nn.Module) -> None:
    kind = type(conv)
    assert with_packs(conv, plainly) is plainly
    assert type(conv) is kind


def test_other_processors_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert with_packs(nn.Conv2d(2, 2, 1), plainly) is plainly


def test_large_networks_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = nn.Conv2d(2, 2, 1), nn.Conv2d(4, 4, 3)
    monkeypatch.setattr(packing, "MOST", small.weight.nbytes)
    with_packs(small, plainly)
    assert with_packs(large, plainly) is plainly
    assert type(small) is packing.PackedConv2d
    assert type(large) is nn.Conv2d


@pytest.mark.parametrize(
    ("offload", "compile_"), [("all", False), ("none", True)], ids=["offloaded", "compiled"]
)
def test_weights_that_move_or_are_compiled_are_not_packed(
    folder_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    offload: Offload,
    compile_: bool,
) -> None:
    pipe = load("sd", folder_of("sd")).pipe
    monkeypatch.setattr(tuning, "with_packs", lambda network, way: pytest.fail("packed"))
    spec = ModelSpec(
        id="m", family="sd", width=8, height=8, offload=offload, tuning=Tuning(compile=compile_)
    )
    tuning.tuned(pipe, spec, CPU)
