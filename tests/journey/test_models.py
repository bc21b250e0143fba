"""Several models on one worker that has room for one at a time."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

GENERATE = "/api/v1/image/generate"
TABLE = """
[[model]]
id = "{name}"
family = "toy"
native = ["64x64"]
steps = 3
max_batch = 4
{more}
"""


def config(folder: Path, worker: str, **models: str) -> str:
    tables = [TABLE.format(name=name, more=more) for name, more in models.items()]
    path = folder / "models.toml"
    path.write_text(f'[worker]\ndevice = "cpu"\n{worker}\n' + "".join(tables))
    return str(path)


@pytest.fixture(scope="module")
def crowded(serving, tmp_path_factory) -> Iterator:
    """Three models of a megabyte each in a megabyte and a half."""
    path = tmp_path_factory.mktemp("crowded")
    names = dict.fromkeys(("ann", "bob", "eve"), "")
    with serving("--config", config(path, "memory_bytes = 1572864", **names)) as server:
        yield server


def test_each_model_is_there_when_it_is_asked_for(crowded) -> None:
    for name in ("eve", "ann", "bob", "eve"):
        answer = crowded.post(GENERATE, model=name, prompt="an owl")
        assert answer.status_code == 200, answer.text
        assert answer.json()["provider_metadata"]["raw"]["model"] == name


def test_models_asked_for_in_turn_do_not_drive_each_other_out(crowded) -> None:
    loads = len(re.findall("loaded in", crowded.log))
    with ThreadPoolExecutor(24) as pool:
        names = ["ann", "bob"] * 12
        asked = [pool.submit(crowded.post, GENERATE, model=n, prompt="slow owl") for n in names]
        assert {each.result().status_code for each in asked} == {200}
    assert len(re.findall("loaded in", crowded.log)) - loads <= 6


def test_a_killed_worker_comes_back_with_what_is_asked_for(crowded) -> None:
    crowded.post(GENERATE, model="eve", prompt="an owl")
    crowded.worker.kill()
    assert crowded.post(GENERATE, model="bob", prompt="an owl").status_code == 200
    assert crowded.post(GENERATE, model="eve", prompt="an owl").status_code == 200


def test_an_idle_model_is_given_up_and_comes_back(serving, tmp_path: Path) -> None:
    with serving("--config", config(tmp_path, "", ann="keep_seconds = 0.3")) as server:
        server.wait_for_log("ann is given up")
        assert server.post(GENERATE, model="ann", prompt="an owl").status_code == 200
        with server.client() as client:
            assert client.get("/readyz").status_code == 200


def test_loras_of_the_configuration_act(serving, tmp_path: Path) -> None:
    (tmp_path / "ink.safetensors").touch()
    lora = '[[lora]]\nname = "ink"\npath = "ink.safetensors"\nmodel = "ann"\nalways = true\n'
    path = Path(config(tmp_path, "", ann=""))
    path.write_text(path.read_text() + lora)
    with serving("--config", str(path)) as server:
        ask = {"model": "ann", "prompt": "an owl", "seed": 3}
        urls = [
            server.post(GENERATE, **ask, lora_strength=strength).json()["images"][0]["data_url"]
            for strength in (0, 50, 100)
        ]
        assert len(set(urls)) == 3
        assert server.post(GENERATE, **ask).json()["images"][0]["data_url"] == urls[2]
