"""A tree of checkpoints as other programs keep them, served as it is."""

from pathlib import Path

import pytest
import torch

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
from tests.models import original

GENERATE = "/api/v1/image/generate"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Weights in one file, and beside it a folder of what such a file lacks; and a damaged file."""
    torch.manual_seed(3)
    pipe = original.sd()
    (tmp_path / "checkpoints").mkdir()
    whole = original.save(pipe, tmp_path / "checkpoints" / "Dream.safetensors")
    half = whole.read_bytes()[: whole.stat().st_size // 2]
    (tmp_path / "checkpoints" / "half.safetensors").write_bytes(half)
    pipe.save_pretrained(tmp_path / "sd15")
    return tmp_path


def test_a_single_file_paints_as_its_folder_does_and_a_damaged_one_is_named(
    serving, tree: Path
) -> None:
    tables = [
        f'[[model]]\nid = "{name}"\npath = "checkpoints/{file}.safetensors"\nbase = "sd15"\n'
        f'native = ["64x64"]\npreload = {preload}\n'
        for name, file, preload in (("dream", "Dream", "true"), ("half", "half", "false"))
    ]
    folder = '[[model]]\nid = "folder"\npath = "sd15"\nnative = ["64x64"]\n'
    path = tree / "my.toml"
    path.write_text('model_dirs = ["."]\n[worker]\ndevice = "cpu"\n' + "".join(tables) + folder)
    with serving("--config", str(path)) as server:
        ask = {"prompt": "an owl", "seed": 5, "steps": 3}
        one, other = (
            server.post(GENERATE, model=name, **ask).json()["images"][0]["data_url"]
            for name in ("dream", "folder")
        )
        assert one == other
        answer = server.post(GENERATE, model="half", **ask)
        assert answer.status_code == 503, answer.text
        server.wait_for_log("half")  # which may come after the answer
        assert server.post(GENERATE, model="dream", **ask).status_code == 200
