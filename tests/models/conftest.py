"""Tiny random checkpoints, saved as real diffusers folders and loaded through the real code."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
from tests.models import tiny

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
