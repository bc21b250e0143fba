"""Layers in 8 bits: which, how far off, what they take, and that every picture says so."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.quantizers.bfl.utils import BFLFP8RLinear, dequantize_fp8r

from models import eight, host, offload, weights
from models.canvas import Unloadable
from models.checkpoint import Checkpoint
from models.contract import Finished, LoraSpec, ModelSpec, Tuning
from tests.models.sitter import Run, load
from tests.models.stock import job
from tests.models.test_lora import trained

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FAMILIES = ["sd3", "flux", "flux2", "qwen_image", "z_image"]


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of tiny networks count as large."""
    monkeypatch.setattr(weights, "LARGE", 1)


@pytest.fixture
def reduced(folder_of: Callable[[str], Path], any_size: None) -> Callable[..., Checkpoint]:
    """A checkpoint whose layers are in 8 bits, as if the CPU could multiply so."""

    def model(name: str, **said: object) -> Checkpoint:
        plain = load(name, folder_of(name), **said)
        assert eight.in_eight_bits(plain.pipe.transformer, CPU)
        return dataclasses.replace(plain, fp8=True)

    return model


@pytest.mark.parametrize(
    ("name", "shape", "large"),
    [
        ("transformer_blocks.3.attn.to_q.weight", (3072, 3072), True),
        ("single_transformer_blocks.0.proj_mlp.weight", (12288, 3072), True),
        ("layers.29.feed_forward.w1.weight", (10240, 3840), True),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", (9216, 3072), True),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", (4608, 1536), True),
        ("transformer_blocks.3.attn.to_q.bias", (3072,), False),
        ("transformer_blocks.3.norm1.linear.weight", (18432, 3072), False),
        ("transformer_blocks.3.img_mod.1.weight", (18432, 3072), False),
        ("model.diffusion_model.double_blocks.0.img_mod.lin.weight", (18432, 3072), False),
        ("layers.3.adaLN_modulation.0.weight", (15360, 256), False),
        ("transformer_blocks.3.attn.to_q.weight", (3072, 3080), False),
        ("transformer_blocks.3.attn.to_q.weight", (512, 512), False),
        ("x_embedder.weight", (3072, 3072), False),
        ("proj_out.weight", (3072, 3072), False),
        ("time_text_embed.timestep_embedder.linear_2.weight", (3072, 3072), False),
    ],
)
def test_large_layers_of_blocks_are_meant(name: str, shape: tuple[int, ...], large: bool) -> None:
    assert weights.is_large(name, shape) == large


def test_the_tensors_of_a_file_and_the_layers_in_memory_are_the_same(
    reduced: Callable[..., Checkpoint], folder_of: Callable[[str], Path]
) -> None:
    """So that what a model is expected to take is what it takes, to the byte."""
    for name in FAMILIES:
        model = reduced(name)
        folder = folder_of(name)
        spec = ModelSpec(
            id="m", family="flux", path=str(folder), width=8, height=8, tuning=Tuning(fp8=True)
        )
        plain = ModelSpec(id="m", family="flux", path=str(folder), width=8, height=8)
        gone = host.expected(plain, "cpu") - host.expected(spec, "cpu")
        assert gone == load(name, folder).size - model.size > 0


def test_what_stays_away_saves_nothing_on_the_device(
    folder_of: Callable[[str], Path], any_size: None
) -> None:
    said = {"id": "m", "family": "flux", "path": str(folder_of("flux")), "width": 8, "height": 8}
    spec = ModelSpec(**said, offload="all", tuning=Tuning(fp8=True))
    assert host.expected(spec, "cpu") == host.expected(ModelSpec(**said, offload="all"), "cpu")


def test_a_layer_is_what_its_rows_and_factors_say() -> None:
    torch.manual_seed(0)
    layer, shown = torch.nn.Linear(64, 32, dtype=torch.bfloat16), torch.randn(5, 64).bfloat16()
    small = eight.reduced(layer, CPU)
    assert isinstance(small, BFLFP8RLinear)
    assert (small.weight.dtype, small.weight.shape) == (torch.float8_e4m3fn, layer.weight.shape)
    exact = dequantize_fp8r(small.weight, small.weight_scale)
    # e4m3 has three bits after the leading one: no number is further off than a sixteenth.
    largest = layer.weight.float().abs().amax(dim=1, keepdim=True)
    apart = (exact - layer.weight.float()).abs()
    assert (apart <= layer.weight.float().abs() / 16 + largest / 448 / 512).all()
    assert torch.equal(small.bias, layer.bias)
    expected = torch.nn.functional.linear(shown, exact.bfloat16(), layer.bias)
    assert torch.equal(small(shown), expected)
    assert not any(part.requires_grad for part in small.parameters())


def test_rows_of_both_sides_have_factors_of_their_own() -> None:
    """The product that GPUs do, on a CPU: as far off as 8 bits are, whatever the rows' sizes."""
    torch.manual_seed(0)
    sizes = torch.logspace(-3, 3, 64)[:, None]
    layer = torch.nn.Linear(256, 128, bias=False)
    layer.weight.data = torch.randn(128, 256) * torch.logspace(-2, 2, 128)[:, None]
    small = eight.reduced(layer, CPU)
    shown = torch.randn(64, 256) * sizes
    row = (shown.abs().amax(dim=1, keepdim=True) / 448).float()
    eighth = (shown / row).to(torch.float8_e4m3fn)
    seen = torch._scaled_mm(
        eighth, small.weight.T, row, small.weight_scale[None], out_dtype=torch.bfloat16
    )
    expected = layer(shown)
    apart = (seen.float() - expected).norm(dim=1) / expected.norm(dim=1)
    assert apart.max() < eight.TOLERANCE


def test_a_cpu_refuses(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(Unloadable, match="fp8: cpu cannot; it takes an NVIDIA GPU"):
        load("flux", folder_of("flux"), tuning=Tuning(fp8=True))


@pytest.mark.parametrize(
    ("capability", "error", "refused"),
    [
        ((8, 0), 0.04, "8.9 or later"),
        ((8, 9), 0.04, None),
        ((9, 0), 0.04, None),
        ((9, 0), 0.5, "0.5 off"),
        ((9, 0), float("nan"), "nan off"),
        ((9, 0), float("inf"), "inf off"),
    ],
)
def test_a_gpu_is_asked_and_tried(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    error: float,
    refused: str | None,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(eight, "off", lambda target: error)
    if refused is None:
        eight.refuse(GPU)
        return
    with pytest.raises(Unloadable, match=refused):
        eight.refuse(GPU)


def test_a_layer_is_held_against_the_plain_one() -> None:
    assert 0 < eight.off(CPU) < eight.TOLERANCE


def test_a_model_without_large_layers_is_refused(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eight, "refuse", lambda target: None)
    for name in ("flux", "sd"):  # small ones, and no transformer
        with pytest.raises(Unloadable, match="fp8: this model has no transformer"):
            load(name, folder_of(name), tuning=Tuning(fp8=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_picture_says_so(
    reduced: Callable[..., Checkpoint], model_of: Callable[[str], Checkpoint], name: str
) -> None:
    run, exact = Run(reduced(name)), Run(model_of(name))
    for each in (run, exact):
        each.start(job("owl", "generate"))
        each.start(job("fox", "generate", strict=True))
        each.finish()
    assert [eight.LABEL in notes_of(run, who) for who in ("owl", "fox")] == [True, True]
    assert not any(eight.LABEL in notes_of(exact, who) for who in ("owl", "fox"))
    apart = abs(run.pixels("owl").astype(int) - exact.pixels("owl"))
    assert apart.mean() < 8  # of 255


def notes_of(run: Run, name: str) -> tuple[str, ...]:
    (end,) = [each for each in run.events if isinstance(each, Finished) and each.job == name]
    return end.notes


def test_what_is_in_eight_bits_travels(
    folder_of: Callable[[str], Path], reduced: Callable[..., Checkpoint]
) -> None:
    """Layer by layer to the device and back, with its factors."""
    still, moving = reduced("flux"), reduced("flux")
    offload.travel(moving.pipe.transformer, CPU, offload_type="block_level", num_blocks_per_group=1)
    runs = [Run(model) for model in (still, moving)]
    for run in runs:
        run.start(job("owl", "generate"))
        run.finish()
    assert (runs[0].pixels("owl") == runs[1].pixels("owl")).all()


def test_adapters_are_worn_over_it_in_full_precision(
    folder_of: Callable[[str], Path], reduced: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    file = tmp_path / "a.safetensors"
    trained(folder_of("flux"), FluxPipeline, 0, file)
    model = reduced("flux", loras=(LoraSpec("a", str(file)),))
    before = {name: value.clone() for name, value in model.pipe.transformer.state_dict().items()}
    run = Run(model)
    for who, loras in (("owl", ()), ("fox", (("a", 1.0),)), ("elk", ())):
        run.start(job(who, "generate", prompt="a bird", loras=loras))
        run.finish()
    assert (run.pixels("owl") == run.pixels("elk")).all()
    assert (run.pixels("owl") != run.pixels("fox")).any()
    model.loras.wear((("a", 1.0),))
    adapters = [p for n, p in model.pipe.transformer.named_parameters() if "lora_" in n]
    assert {adapter.dtype for adapter in adapters} == {torch.float32}
    model.pipe.unload_lora_weights()
    after = model.pipe.transformer.state_dict()
    assert all(torch.equal(after[name].float(), before[name].float()) for name in before)
