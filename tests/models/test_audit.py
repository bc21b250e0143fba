"""Damaged and hostile folders are refused with a reason, whatever diffusers would make of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import audit, weights
from models.canvas import Unloadable

KINDS = {"StableDiffusionPipeline"}


def load(folder: Path) -> None:
    audit.load(folder, KINDS, torch.float32)


def drop_tensor(part: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = next((folder / part).glob("*.safetensors"))
        tensors = load_file(file)
        tensors.pop(sorted(tensors)[3])
        save_file(tensors, file, metadata={"format": "pt"})

    return damage


def truncate(part: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = next((folder / part).glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:-100])

    return damage


def rewrite_index(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def to_pickle(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a tensor of the unet is missing": (drop_tensor("unet"), "lacks"),
    "a tensor of the text encoder is missing": (drop_tensor("text_encoder"), "lacks"),
    "a tensor of the vae is missing": (drop_tensor("vae"), "lacks"),
    "the unet is truncated": (truncate("unet"), "unet|truncated|incomplete|Error"),
    "the text encoder is truncated": (truncate("text_encoder"), "Error"),
    "the unet is gone": (lambda folder: shutil.rmtree(folder / "unet"), "Error"),
    "the tokenizer is empty": (
        lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(),
        "words|Error",
    ),
    "the index is gone": (lambda folder: (folder / "model_index.json").unlink(), "index"),
    "the index is no JSON": (
        lambda folder: (folder / "model_index.json").write_text("{"),
        "index",
    ),
    "another pipeline": (rewrite_index(_class_name="FluxPipeline"), "holds a FluxPipeline"),
    "an unknown pipeline": (rewrite_index(_class_name="NoSuchPipeline"), "no pipeline"),
    "a component outside the libraries": (rewrite_index(unet=["os", "system"]), "not allowed"),
    "a component that does not exist": (rewrite_index(unet=["diffusers", "Nope"]), "not allowed"),
    "code in the folder": (lambda folder: (folder / "pipeline.py").write_text(""), "is code"),
    "pickled weights only": (to_pickle, "pickled"),
}


def test_a_sound_folder_loads(sd_folder: Path) -> None:
    load(sd_folder)


def test_parts_that_are_there_in_another_precision_alone_load(
    sd_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sd_folder, folder)
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert weights.numbers(folder) == weights.numbers(sd_folder)
    load(folder)
    for file in folder.rglob("*.safetensors"):  # a plain copy goes first, whatever is beside it
        shutil.copy(file, file.with_suffix("").with_suffix(".safetensors"))
        file.write_bytes(b"damaged")
    load(folder)


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_damaged_folder_is_refused(sd_folder: Path, tmp_path: Path, name: str) -> None:
    damage, reason = DAMAGES[name]
    folder = tmp_path / "copy"
    shutil.copytree(sd_folder, folder)
    damage(folder)
    with pytest.raises(Unloadable, match=reason):
        load(folder)
