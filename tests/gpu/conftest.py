"""Tiny checkpoints on the disk, made when they are first asked for."""

from collections.abc import Callable

import pytest
import torch

from models.contract import ModelSpec
from tests.gpu.painting import FAMILY_OF, HEIGHT, WIDTH
from tests.models import tiny


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelSpec]:
    root = tmp_path_factory.mktemp("checkpoints")

    def spec(name: str, **changes: object) -> ModelSpec:
        if not (root / name).exists():
            torch.manual_seed(0)
            getattr(tiny, name)().save_pretrained(root / name)
        told = {"id": "tiny", "family": FAMILY_OF[name], "path": str(root / name)}
        return ModelSpec(**(told | {"width": WIDTH, "height": HEIGHT} | changes))

    return spec
