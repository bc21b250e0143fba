"""Tiny random checkpoints, saved as real diffusers folders and loaded through the real code."""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
from models.checkpoint import Checkpoint
from tests.models import tiny
from tests.models.sitter import load

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the checkpoint that the builder of this name in `tiny` makes."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            torch.manual_seed(0)
            getattr(tiny, name)().save_pretrained(path)
        return path

    return folder


@pytest.fixture(scope="session")
def sd_folder(folder_of: Callable[[str], Path]) -> Path:
    """A Stable Diffusion checkpoint of half a megabyte."""
    return folder_of("sd")


@pytest.fixture(scope="session")
def sd_inpaint_folder(folder_of: Callable[[str], Path]) -> Path:
    """The same with nine input channels: a checkpoint that only inpaints."""
    return folder_of("sd_inpaint")


@pytest.fixture(scope="session", params=["sdxl", "flux"])
def other_folder(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> Path:
    """A checkpoint for the generic family."""
    return folder_of(request.param)


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    """The same, loaded by its family."""

    @cache
    def model(name: str) -> Checkpoint:
        return load(name, folder_of(name))

    return model


@pytest.fixture(autouse=True)
def small_condition_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen's edit pipelines look at their image with a million pixels, which takes seconds."""
    pipelines = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit"
    edit = importlib.import_module(pipelines)
    plus = importlib.import_module(f"{pipelines}_plus")
    whole = edit.calculate_dimensions
    monkeypatch.setattr(edit, "calculate_dimensions", lambda area, ratio: whole(128 * 128, ratio))
    monkeypatch.setattr(plus, "VAE_IMAGE_SIZE", 128 * 128)
    monkeypatch.setattr(plus, "CONDITION_IMAGE_SIZE", 64 * 64)
