"""What folders tell of themselves."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.library.traits import traits
from server.settings.config import ConfigError, load
from server.settings.offers import ModelTable


def folder(root: Path, name: str, index: dict[str, Any], **configs: dict[str, Any]) -> Path:
    path = root / name
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps(index))
    for part, config in configs.items():
        (path / part).mkdir()
        (path / part / "config.json").write_text(json.dumps(config))
    return path


FOLDERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "sd15": (
        {"_class_name": "StableDiffusionPipeline"},
        {"unet": {"in_channels": 4, "sample_size": 64}},
        {"family": "sd", "tasks": ("generate", "edit", "inpaint"), "guidance": 7.5},
    ),
    "sd21": (
        {"_class_name": "StableDiffusionPipeline"},
        {"unet": {"in_channels": 4, "sample_size": 96}},
        {"native": ("768x768", "768x1152", "1152x768")},
    ),
    "sd-inpainting": (
        {"_class_name": "StableDiffusionInpaintPipeline"},
        {"unet": {"in_channels": 9}},
        {"tasks": ("inpaint",)},
    ),
    "pix2pix": (
        {"_class_name": "StableDiffusionInstructPix2PixPipeline"},
        {},
        {"tasks": ("edit", "inpaint"), "instructs": True},
    ),
    "sdxl-turbo": (
        {"_class_name": "StableDiffusionXLPipeline"},
        {"unet": {"in_channels": 4, "sample_size": 64}},
        {
            "family": "sdxl",
            "steps": 4,
            "guidance": 1.0,
            "native": ("512x512", "512x768", "768x512"),
        },
    ),
    "flux-dev": (
        {"_class_name": "FluxPipeline"},
        {"transformer": {"guidance_embeds": True}},
        {"family": "flux", "steps": 28, "guidance": 3.5, "negative_prompt": False},
    ),
    "schnell": (
        {"_class_name": "FluxPipeline"},
        {"transformer": {"guidance_embeds": False}},
        {"steps": 4, "guidance": 1.0, "negative_prompt": True},
    ),
    "kontext": (
        {"_class_name": "FluxKontextPipeline"},
        {"transformer": {"guidance_embeds": True}},
        {"instructs": True, "max_inputs": 4},
    ),
    "klein": (
        {"_class_name": "Flux2KleinPipeline", "is_distilled": True},
        {},
        {"family": "flux2", "steps": 4, "instructs": True},
    ),
    "edit-plus": (
        {"_class_name": "QwenImageEditPlusPipeline"},
        {},
        {"family": "qwen-image", "tasks": ("edit", "inpaint"), "max_inputs": 3},
    ),
    "z-turbo": ({"_class_name": "ZImagePipeline"}, {}, {"family": "z-image", "steps": 9}),
    "edit-inpaint": (
        {"_class_name": "QwenImageEditInpaintPipeline"},
        {},
        {"family": "generic", "tasks": ("inpaint",)},
    ),
    "sana": ({"_class_name": "SanaPipeline"}, {}, {"family": "generic", "multiple": 32}),
}


@pytest.mark.parametrize("name", list(FOLDERS))
def test_a_folder_tells(tmp_path: Path, name: str) -> None:
    index, configs, expected = FOLDERS[name]
    found = traits(folder(tmp_path, name, index, **configs))
    assert found | expected == found
    ModelTable.model_validate({"id": "m", "path": "/m"} | found)


def test_what_is_no_model_tells_nothing(tmp_path: Path) -> None:
    assert traits(tmp_path / "nowhere") == {}
    for text in ("", "[]", '{"_class_name": 3}', "\x00"):
        (tmp_path / "model_index.json").write_text(text)
        assert traits(tmp_path) == {}


def test_what_a_table_says_goes_first(tmp_path: Path) -> None:
    path = folder(tmp_path, "xl", {"_class_name": "StableDiffusionXLPipeline"})
    config = tmp_path / "my.toml"
    config.write_text(f'[[model]]\nid = "xl"\npath = "{path}"\nsteps = 20\n')
    (model,) = load(config).model
    assert (model.family, model.steps, model.guidance) == ("sdxl", 20, 6.0)


def test_models_named_on_the_command_line_need_no_file(tmp_path: Path) -> None:
    index = {"_class_name": "FluxPipeline"}
    first, second = folder(tmp_path, "one", index), folder(tmp_path, "two", index)
    config = load(models=[("one", str(first)), ("two", str(second))])
    assert [model.id for model in config.model] == ["one", "two"]
    assert config.names["flux-pro"] == "one"


def test_they_go_before_those_of_a_file(tmp_path: Path) -> None:
    path = folder(tmp_path, "one", {"_class_name": "FluxPipeline"})
    file = tmp_path / "my.toml"
    file.write_text('[[model]]\nid = "toy"\nfamily = "toy"\nnative = ["64x64"]\n')
    assert [model.id for model in load(file, models=[("one", str(path))]).model] == ["one", "toy"]


def test_names_of_no_model_give_way(tmp_path: Path) -> None:
    path = folder(tmp_path, "one", {"_class_name": "FluxPipeline"})
    config = load(models=[("flux-pro", str(path)), ("dall-e-3", str(path))])
    assert "flux-pro" not in config.names
    assert config.names["qwen-edit"] == "flux-pro"


def test_a_path_to_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one: .*nowhere/model_index\.json is not there"):
        load(models=[("one", str(tmp_path / "nowhere"))])
    with pytest.raises(ConfigError, match=r"one: .*cannot be read as the index of a model"):
        load(models=[("one", str(tmp_path))])


def test_one_name_for_two_models_is_told(tmp_path: Path) -> None:
    path = str(folder(tmp_path, "one", {"_class_name": "FluxPipeline"}))
    with pytest.raises(ConfigError, match='two models are called "one"'):
        load(models=[("one", path), ("one", path)])


def test_a_table_of_another_family_is_left_alone(tmp_path: Path) -> None:
    path = folder(tmp_path, "xl", {"_class_name": "StableDiffusionXLPipeline"})
    config = tmp_path / "my.toml"
    config.write_text(
        f'[[model]]\nid = "xl"\nfamily = "generic"\npath = "{path}"\nnative = ["64x64"]\n'
    )
    assert load(config).model[0].able == ("generate",)


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("sdxl-turbo", 4),
        ("SDXL_Lightning_4step", 4),
        ("hyperrealism-v3", 30),
        ("models--stabilityai--sdxl-turbo/snapshots/f00d", 4),
        ("models--stabilityai--sdxl/snapshots/f00d", 30),
    ],
)
def test_distilled_models_are_told_by_their_names(tmp_path: Path, path: str, steps: int) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    found = traits(folder(tmp_path, path, {"_class_name": "StableDiffusionXLPipeline"}))
    assert found["steps"] == steps
