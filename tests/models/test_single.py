"""A single file in its authors' layout paints as the diffusers folder of the same weights does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from models import audit, headers, weights
from models.canvas import Unloadable
from models.families import flux, flux2, qwen_image, sd, sd3, sdxl, z_image
from models.single import SingleFile
from tests.models import original, tiny

Made = tuple[Path, Path]  # a folder, and the single file of the same weights
KINDS: dict[str, tuple[Callable[[], DiffusionPipeline], Any]] = {
    "sd": (original.sd, sd.FAMILY),
    "sdxl": (original.sdxl, sdxl.FAMILY),
    "flux": (tiny.flux, flux.FAMILY),
    "flux2": (tiny.flux2, flux2.FAMILY),
    "qwen_image": (tiny.qwen_image, qwen_image.FAMILY),
    "z_image": (tiny.z_image, z_image.FAMILY),
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    root, known = tmp_path_factory.mktemp("single"), dict[str, Made]()

    def get(name: str) -> Made:
        if name not in known:
            torch.manual_seed(7)
            pipe = KINDS[name][0]()
            pipe.save_pretrained(root / name)
            known[name] = root / name, original.save(pipe, root / f"{name}.safetensors")
        return known[name]

    return get


@pytest.fixture
def bare(made: Callable[[str], Made], tmp_path: Path) -> Path:
    """The configurations and tokenizers of SD 1 without any weights."""
    folder = tmp_path / "bare"
    shutil.copytree(made("sd")[0], folder)
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    return folder


def load(path: Path, base: Path | None, name: str = "sd") -> Any:
    family = KINDS[name][1]
    return audit.load(path, family.pipelines, torch.float32, family.optional, base)


def parameters(pipe: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for key, tensor in part.state_dict().items()
    }


@pytest.mark.parametrize("name", list(KINDS))
def test_every_number_of_the_file_is_where_the_folder_has_it(
    made: Callable[[str], Made], name: str
) -> None:
    folder, file = made(name)
    ours, theirs = parameters(load(file, folder, name)), parameters(load(folder, None, name))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["flux", "flux2", "qwen_image", "z_image"])
def test_a_transformer_is_known_by_the_names_that_it_has_among_other_parts(
    made: Callable[[str], Made], tmp_path: Path, name: str
) -> None:
    folder, file = made(name)
    prefixed = {f"{headers.INSIDE}{key}": each for key, each in load_file(file).items()}
    others = {"text_encoders.some_7b.model.weight": torch.zeros(3, 3)}  # which nobody converts
    save_file(prefixed | others, tmp_path / "all.safetensors")
    ours = parameters(load(tmp_path / "all.safetensors", folder, name))
    theirs = parameters(load(folder, None, name))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_numbers_of_any_precision_are_read_into_the_models(
    made: Callable[[str], Made], tmp_path: Path, dtype: torch.dtype
) -> None:
    folder, file = made("flux")
    save_file({n: t.to(dtype) for n, t in load_file(file).items()}, tmp_path / "few.safetensors")
    weight = parameters(load(tmp_path / "few.safetensors", folder, "flux"))
    whole = parameters(load(folder, None, "flux"))["transformer.x_embedder.weight"]
    assert torch.equal(weight["transformer.x_embedder.weight"], whole.to(dtype).float())


def test_an_encoder_that_the_file_leaves_out_is_the_bases(folder_of, tmp_path: Path) -> None:
    """As the file of SD 3 that has its CLIPs and no T5."""
    folder = folder_of("sd3")
    whole = load_sd3(folder, None)
    names = {f"text_encoders.clip_l.transformer.{n}": t for n, t in clip(whole.text_encoder)}
    names |= {f"text_encoders.clip_g.transformer.{n}": t for n, t in clip(whole.text_encoder_2)}
    names |= {f"{headers.INSIDE}{n}": t for n, t in whole.transformer.state_dict().items()}
    save_file({n: t.clone() for n, t in names.items()}, tmp_path / "sd3.safetensors")
    assert weights.numbers(tmp_path / "sd3.safetensors", folder) == weights.numbers(folder) - sum(
        part.text_projection.weight.numel() for part in (whole.text_encoder, whole.text_encoder_2)
    )
    file = SingleFile.open(tmp_path / "sd3.safetensors")
    held = {name: file.has(folder, name, type(part).__name__) for name, part in encoders(whole)}
    assert held == {"text_encoder": True, "text_encoder_2": True, "text_encoder_3": False}


def load_sd3(path: Path, base: Path | None) -> Any:
    return audit.load(path, sd3.FAMILY.pipelines, torch.float32, sd3.FAMILY.optional, base)


def encoders(pipe: Any) -> list[tuple[str, Any]]:
    return [(name, part) for name, part in pipe.components.items() if name.startswith("text_enc")]


def clip(encoder: Any) -> list[tuple[str, torch.Tensor]]:
    """What such files have of an encoder: no projection, which diffusers makes up."""
    tensors = encoder.state_dict().items()
    return [(name, tensor) for name, tensor in tensors if not name.startswith("text_projection")]


def moved(pipe: Any) -> Any:
    """The pipeline with its weights where torch puts them: products of those that lie otherwise in
    memory, as a file has them, may differ in their last digits."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for weight in part.parameters():
                weight.data = weight.data.clone()
    return pipe


def test_a_whole_checkpoint_needs_no_weights_of_its_base(
    made: Callable[[str], Made], bare: Path
) -> None:
    folder, file = made("sd")
    said: dict[str, Any] = {
        "prompt": "a cat",
        "num_inference_steps": 2,
        "height": 64,
        "width": 64,
        "output_type": "pt",
    }
    ours, theirs = (
        pipe(**said, generator=torch.Generator().manual_seed(1)).images
        for pipe in map(moved, (load(file, bare), StableDiffusionPipeline.from_pretrained(folder)))
    )
    assert torch.equal(ours, theirs)


def test_its_size_is_told_ahead(made: Callable[[str], Made], bare: Path) -> None:
    for away in ((), ("text_encoder",), ("text_encoder", "unet", "transformer")):
        for name in KINDS:
            folder, file = made(name)
            assert weights.numbers(file, folder, away) == weights.numbers(folder, without=away)
        folder, file = made("sd")
        assert weights.numbers(file, bare, away) == weights.numbers(folder, without=away)


def rewrite(file: Path, to: Path, **changes: torch.Tensor | None) -> Path:
    tensors = load_file(file) | changes
    save_file({name: t for name, t in tensors.items() if t is not None}, to)
    return to


def without(name: str) -> Callable[[Path, Path], Path]:
    return lambda file, to: rewrite(file, to, **{name: None})


def halved(file: Path, to: Path) -> Path:
    to.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return to


def pickled(file: Path, to: Path) -> Path:
    torch.save(load_file(file), to.with_suffix(".ckpt"))
    return to.with_suffix(".ckpt")


DAMAGES: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "half of it": (halved, "Error"),
    "a pickle": (pickled, "no .safetensors file"),
    "no unet": (
        lambda file, to: rewrite(
            file, to, **{n: None for n in load_file(file) if n.startswith("model.")}
        ),
        "lacks tensors of the unet|missing",
    ),
    "a hole in the unet": (
        without("model.diffusion_model.out.2.weight"),
        "lacks tensors of the unet",
    ),
    "a hole in the vae": (without("first_stage_model.decoder.conv_in.bias"), "lacks"),
    "a hole in the text encoder": (
        without("cond_stage_model.transformer.text_model.final_layer_norm.weight"),
        "lacks",
    ),
    "scaled fp8": (
        lambda file, to: rewrite(file, to, scaled_fp8=torch.zeros(2)),
        "quantised with scales",
    ),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_file_is_refused(
    made: Callable[[str], Made], bare: Path, tmp_path: Path, damage: str
) -> None:
    harm, reason = DAMAGES[damage]
    with pytest.raises(Unloadable, match=reason):
        load(harm(made("sd")[1], tmp_path / "harmed.safetensors"), bare)


def test_what_neither_file_nor_base_has_is_named(made: Callable[[str], Made], bare: Path) -> None:
    file = made("sd")[1]
    alone = rewrite(
        file,
        bare / "alone.safetensors",
        **{n: None for n in load_file(file) if not n.startswith("model.")},
    )
    with pytest.raises(Unloadable, match=r"text_encoder|vae"):
        load(alone, bare)


def test_a_file_says_how_it_was_trained(
    made: Callable[[str], Made], bare: Path, tmp_path: Path
) -> None:
    """By tensors that mean nothing else, as trainers of v-prediction leave them."""
    file = made("sd")[1]
    assert load(file, bare).scheduler.config.prediction_type == "epsilon"
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    config = load(rewrite(file, tmp_path / "v.safetensors", **marks), bare).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
    only = {"v_pred": torch.zeros(0)}
    config = load(rewrite(file, tmp_path / "v.safetensors", **only), bare).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", False)


def test_a_base_whose_schedule_cannot_do_that_gets_another(
    made: Callable[[str], Made], bare: Path, tmp_path: Path
) -> None:
    """As that of Stable Diffusion 1.5."""
    own = PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
    own.save_pretrained(bare / "scheduler")
    index = json.loads((bare / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "PNDMScheduler"]
    (bare / "model_index.json").write_text(json.dumps(index))
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    scheduler = load(rewrite(made("sd")[1], tmp_path / "v.safetensors", **marks), bare).scheduler
    assert scheduler.config.rescale_betas_zero_snr
    assert scheduler.config.beta_schedule == "scaled_linear"
