"""Linear layers by oneDNN change last digits at most, and only in what the way runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from models import linears
from models.checkpoint import Checkpoint
from models.contract import ModelSpec, Tuning
from models.linears import LEAST, OneDnnLinear, by_onednn
from models.merge import RULES, Forward, Way, plainly
from models.tuning import tuned
from tests.models.commission import shipped
from tests.models.sitter import load

CPU = torch.device("cpu")
ASKED = "mkldnn::_linear_pointwise"


@pytest.fixture(autouse=True)
def any_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are to be right on every processor that has oneDNN."""
    monkeypatch.setattr(linears, "usable", torch.backends.mkldnn.is_available)


class Asked(TorchDispatchMode):
    """Counts what oneDNN is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name() == ASKED
        return func(*args, **(kwargs or {}))


def asked(way: Way, forward: Forward) -> int:
    with Asked() as calls, torch.no_grad():
        way(forward)
    return calls.count


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 77), (1, 1024), (600,), (2, 3, 64)])
def test_a_layer_gives_the_same_to_its_last_digits(shape: tuple[int, ...], bias: bool) -> None:
    layer, dense = nn.Linear(320, 640, bias), torch.randn(*shape, 320)
    for given in (
        dense,
        torch.randn(*shape, 640)[..., ::2],
        torch.randn(320, *shape).movedim(0, -1),
    ):
        forward = Forward(layer, {"input": given})
        with torch.no_grad():
            expected, found = plainly(forward), by_onednn(layer, plainly)(forward)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert asked(by_onednn(layer, plainly), forward) == 1
        assert asked(plainly, forward) == 0


@pytest.mark.parametrize(("more", "expected"), [(-1, 0), (0, 1)])
def test_little_work_is_left_to_torch(more: int, expected: int) -> None:
    layer, rows = nn.Linear(64, 64), LEAST // 64**2 + more
    forward = Forward(layer, {"input": torch.ones(rows, 64)})
    assert asked(by_onednn(layer, plainly), forward) == expected


@pytest.mark.parametrize("family", ["sd", "flux"])
@pytest.mark.parametrize("rows", [2, 16])
def test_a_trained_network_predicts_the_same_to_its_last_digits(family: str, rows: int) -> None:
    name = {"sd": "sketch", "flux": "sketch-flux"}[family]
    denoiser, arguments = asking(shipped(name, family).checkpoint, rows)
    forward = Forward(denoiser, arguments, RULES[f"{type(denoiser).__name__}.forward"])
    way = by_onednn(denoiser, plainly)
    with torch.no_grad():
        (expected,), (found,) = plainly(forward), way(forward)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert asked(way, forward) > 10
    assert asked(plainly, forward) == 0


def asking(model: Checkpoint, rows: int) -> tuple[Any, dict[str, Any]]:
    """A checkpoint's denoiser, and what a step of so many rows gives it."""
    dice = torch.Generator().manual_seed(rows)
    if hasattr(model.pipe, "unet"):
        return model.pipe.unet, {
            "sample": torch.randn(rows, 4, 16, 16, generator=dice),
            "timestep": torch.linspace(1, 999, rows),
            "encoder_hidden_states": torch.randn(rows, 32, 128, generator=dice),
            "return_dict": False,
        }
    network = model.pipe.transformer
    config = network.config
    return network, {
        "hidden_states": torch.randn(rows, 64, config.in_channels, generator=dice),
        "timestep": torch.linspace(0.1, 0.9, rows),
        "encoder_hidden_states": torch.randn(rows, 32, config.joint_attention_dim, generator=dice),
        "pooled_projections": torch.randn(rows, config.pooled_projection_dim, generator=dice),
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(8.0), torch.arange(8.0)),
        "txt_ids": torch.zeros(32, 3),
        "guidance": torch.full((rows,), 4.0) if config.guidance_embeds else None,
        "return_dict": False,
    }


@pytest.mark.parametrize("usable", [True, False])
def test_only_some_processors_are_known_to_gain(
    monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    maker = "AuthenticAMD" if usable else "GenuineIntel"
    monkeypatch.setattr(linears, "maker", lambda: maker)
    assert linears.usable() is (usable and torch.backends.mkldnn.is_available())
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not linears.usable()


def test_other_precisions_and_other_layers_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for part in (nn.Linear(4, 4).bfloat16(), nn.Bilinear(2, 2, 2), nn.Conv2d(2, 2, 1)):
        kind = type(part)
        assert by_onednn(part, plainly) is plainly
        assert type(part) is kind
    monkeypatch.setattr(linears, "usable", lambda: False)
    assert by_onednn(nn.Linear(4, 4), plainly) is plainly


@pytest.mark.parametrize("compile_", [False, True])
def test_what_is_compiled_is_left_to_the_compiler(
    folder_of: Callable[[str], Path], compile_: bool
) -> None:
    pipe = load("sd", folder_of("sd")).pipe
    for part in pipe.unet.modules():
        if isinstance(part, nn.Linear):
            part.__class__ = nn.Linear
    spec = ModelSpec(id="m", family="sd", width=8, height=8, tuning=Tuning(compile=compile_))
    tuned(pipe, spec, CPU)
    assert any(isinstance(part, OneDnnLinear) for part in pipe.unet.modules()) is not compile_
