"""What is tuned changes no number: layouts and the order of kernels are looked at on any device."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend

from models import attention, tuning
from models.attention import CUDNN_FIRST, HOPPER, TRIED, Trial, off, order_for
from models.checkpoint import Checkpoint
from models.contract import ModelSpec, Tuning
from models.merge import Forward, plainly, rule
from models.shell import denoiser_name
from models.signatures import told_at_once
from tests.models.sitter import load
from tests.models.stock import FAMILY_OF

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_a_cpu_has_no_graphs(
    model_of: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "Graphs", lambda way: pytest.fail("recorded"))
    spec = ModelSpec(id="m", family="sd", width=8, height=8, tuning=Tuning(graphs=True))
    tuning.tuned(model_of("sd").pipe, spec, CPU)


@pytest.mark.parametrize("name", sorted(FAMILY_OF))
def test_diffusers_is_told_at_once_what_it_would_find_out(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    pipe = model_of(name).pipe
    asked = [type(pipe.scheduler).step, type(pipe.scheduler).set_timesteps]
    network = getattr(pipe, denoiser_name(pipe))
    found = [layer.processor for layer in network.modules() if hasattr(layer, "processor")]
    assert found
    for function in asked + [type(processor).__call__ for processor in found]:
        told = vars(function).pop("__signature__")
        assert told == inspect.signature(function)
        told_at_once(function)
        assert inspect.signature(function) is function.__signature__


RULE = rule("x", batch="x")


@pytest.mark.parametrize(
    "form",
    [lambda x: (x, x + 1), lambda x: ([x, x],), lambda x: ([x], x)],
    ids=["tensors", "a list", "both"],
)
def test_torch_keeps_no_records_in_a_forward_and_may_change_what_comes_out(
    form: Callable[[torch.Tensor], tuple[object, ...]],
) -> None:
    modes: list[bool] = []

    def function(x: torch.Tensor) -> tuple[object, ...]:
        modes.append(torch.is_inference_mode_enabled())
        return form(x * 2)

    way = tuning.without_records(plainly)
    with torch.no_grad():
        output = way(Forward(function, {"x": torch.ones(3)}, RULE))
        for part in (tensor for entry in output for tensor in entry):
            part.add_(1)  # which fails on what is made in that mode
    assert modes == [True]
    assert type(output) is tuple
    assert way(Forward(torch.is_inference_mode_enabled, {})) is False


@pytest.mark.parametrize(("compile_", "expected"), [(False, True), (True, False)])
def test_what_is_compiled_keeps_the_usual_mode(
    folder_of: Callable[[str], Path], compile_: bool, expected: bool
) -> None:
    tuned = Tuning(compile=compile_)
    spec = ModelSpec(id="m", family="sd", width=8, height=8, tuning=tuned)
    way = tuning.tuned(load("sd", folder_of("sd")).pipe, spec, CPU)
    seen = way(Forward(lambda x: (torch.is_inference_mode_enabled(),), {"x": 0}, RULE))
    assert seen == (expected,)


def test_weights_that_hooks_move_are_of_the_usual_kind(
    model_of: Callable[[str], Checkpoint],
) -> None:
    spec = ModelSpec(id="m", family="sd", width=8, height=8, offload="all")
    assert tuning.tuned(model_of("sd").pipe, spec, CPU) is plainly


@pytest.mark.parametrize("name", sorted(FAMILY_OF))
def test_every_family_can_be_laid_out_so(
    folder_of: Callable[[str], Path], model_of: Callable[[str], Checkpoint], name: str
) -> None:
    pipe = load(name, folder_of(name)).pipe
    tuning.in_channels_last(pipe)
    for one, other in zip(pipe.vae.parameters(), model_of(name).pipe.vae.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("dtype", "rounded"), [(torch.float32, False), (torch.bfloat16, True)])
def test_convolutions_of_float32_are_not_rounded_on_a_gpu(
    folder_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    rounded: bool,
) -> None:
    monkeypatch.setattr(attention, "order_for", lambda device: None)
    pipe = load("sd", folder_of("sd")).pipe.to(dtype=dtype)
    way = tuning.tuned(pipe, ModelSpec(id="m", family="sd", width=8, height=8), GPU)
    assert way(Forward(lambda: torch.backends.cudnn.allow_tf32, {})) is rounded
    with pytest.raises(ZeroDivisionError):
        way(Forward(lambda: 1 / 0, {}))
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_channels_last_is_the_same_arithmetic(
    folder_of: Callable[[str], Path], dtype: torch.dtype, most: float
) -> None:
    pipe = load("sd", folder_of("sd")).pipe
    pipe.to(dtype=dtype)
    latents = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        before = pipe.vae.decode(latents).sample
        tuning.in_channels_last(pipe)
        after = pipe.vae.decode(latents).sample
    weights = [part for part in pipe.unet.parameters() if part.ndim == 4 and part.shape[1] > 1]
    assert weights
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in weights)
    assert (before - after).abs().max() <= most


@pytest.mark.parametrize(
    ("capability", "error", "expected"),
    [
        (HOPPER, 0.008, CUDNN_FIRST),
        (HOPPER, 0.5, None),  # it computes something else
        (HOPPER, float("nan"), None),
        (HOPPER, float("inf"), None),  # it does not run at all
        ((8, 9), 0.0, None),  # where it is the slower one
        ((10, 0), 0.0, None),
    ],
)
def test_cudnn_goes_first_where_it_is_fast_and_right(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    error: float,
    expected: object,
) -> None:
    order_for.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(attention, "off", lambda *_: error)
    assert order_for(GPU) is expected
    order_for.cache_clear()


@pytest.mark.parametrize("error", [0.5, float("nan"), float("inf")])
@pytest.mark.parametrize("bad", TRIED)
def test_one_wrong_trial_is_enough(
    monkeypatch: pytest.MonkeyPatch, bad: Trial, error: float
) -> None:
    order_for.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: HOPPER)
    monkeypatch.setattr(attention, "off", lambda _, trial, __: error if trial == bad else 0.008)
    assert order_for(GPU) is None
    order_for.cache_clear()


@pytest.mark.parametrize("trial", TRIED)
def test_kernels_are_compared_with_plain_arithmetic(trial: Trial) -> None:
    trial = trial._replace(heads=2)  # on a CPU each takes its time
    flash = (SDPBackend.FLASH_ATTENTION,)
    assert 0 < off(flash, trial, CPU) < attention.TOLERANCE
    assert off(CUDNN_FIRST, trial, CPU) < attention.TOLERANCE  # by the next that there is
    assert off(CUDNN_FIRST[:1], trial, CPU) == float("inf")  # it is not on a CPU


def test_a_mask_hides_some_keys_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = next(trial for trial in TRIED if trial.masked)
    seen: list[torch.Tensor] = []
    plain = attention.scaled_dot_product_attention
    monkeypatch.setattr(
        attention,
        "scaled_dot_product_attention",
        lambda *given: seen.append(given[3]) or plain(*given),
    )
    off(CUDNN_FIRST, masked, CPU)
    assert {part.dtype for part in seen} == {torch.bool}
    assert [[each.sum().item() for each in part] for part in seen] == [[333, 303]] * 2


def test_forwards_see_the_order_and_nothing_after_them_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "order_for", lambda device: CUDNN_FIRST)
    before = torch._C._get_sdp_priority_order()
    way = attention.fastest_first(GPU, plainly)
    seen = way(Forward(torch._C._get_sdp_priority_order, {}))
    assert seen[0] == int(SDPBackend.CUDNN_ATTENTION.value)
    assert torch._C._get_sdp_priority_order() == before
