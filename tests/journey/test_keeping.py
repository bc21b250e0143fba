"""`limner ls`, `rm`, `verify` and `ps`: what is on this machine, and what is in memory."""

import json
import os
import re
from pathlib import Path

import msgspec
import pytest
import torch

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
from models import families, manifest
from server.jobs.status import Status
from server.settings.config import load
from server.settings.stock import worker_spec
from tests.journey.fakehub import WEIGHTS, Repo
from tests.models import tiny

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "configs" / "toy.toml")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "my.toml"
    path.write_text('[[model]]\nid = "little"\npath = "hf:ann/tiny"\n')
    return str(path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000:] = bytes(byte ^ 1 for byte in data[-1000:])
    path.write_bytes(data)


def snapshot(hub) -> Path:
    return hub.cache / "models--ann--tiny" / "snapshots" / hub.repos["ann/tiny"].commit


# -- ls, rm ----------------------------------------------------------------------------------------


def test_what_is_pulled_is_listed_with_its_family_and_who_serves_it(hub, limner, config) -> None:
    limner("pull", "ann/tiny")
    rows = json.loads(limner("ls", "--json", "--config", config).stdout)
    (row,) = rows
    assert row["path"] == "hf:ann/tiny"
    assert row["family"] == "sd"
    assert row["models"] == ["little"]
    assert row["there"]
    files = {path.resolve() for path in snapshot(hub).rglob("*") if path.is_file()}
    assert row["size"] == sum(path.stat().st_size for path in files)
    text = limner("ls", "--config", config).stdout
    assert re.search(r"hf:ann/tiny +sd +.* kB +20..-..-.. +little", text)


def test_configured_models_are_listed_wherever_they_are(hub, limner, tmp_path) -> None:
    path = tmp_path / "two.toml"
    table = '[[model]]\nid = "{0}"\nfamily = "sd"\nnative = ["64x64"]\npath = "{1}"\n'
    path.write_text(table.format("sketch", "demo:sketch") + table.format("gone", "hf:ann/tiny"))
    rows = json.loads(limner("ls", "--json", "--config", str(path)).stdout)
    assert {row["path"]: row["there"] for row in rows} == {
        "demo:sketch": True,
        "hf:ann/tiny": False,
    }
    assert "not here" in limner("ls", "--config", str(path)).stdout


def test_what_a_config_lacks_can_be_pulled_with_it(hub, limner, config) -> None:
    assert "`limner pull ann/tiny`" in limner("models", "--config", config).stderr
    assert limner("pull", "ann/tiny", "--config", config).returncode == 0
    done = limner("models", "--config", config)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_what_is_removed_is_gone_and_frees_what_was_said(hub, limner, config) -> None:
    limner("pull", "ann/tiny")
    done = limner("rm", "ann/tiny", "--config", config)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert snapshot(hub).is_dir()
    done = limner("rm", "ann/tiny", "--yes", "--config", config)
    assert done.returncode == 0, done.stderr
    assert "frees" in done.stdout
    assert "[[model]] little" in done.stderr
    assert not (hub.cache / "models--ann--tiny").exists()
    assert list((hub.data / "manifests").iterdir()) == []
    done = limner("rm", "ann/tiny", "--yes")
    assert done.returncode == 1
    assert "is not in" in done.stderr


def test_one_revision_is_removed_and_the_other_stays(hub, limner) -> None:
    limner("pull", "ann/tiny")
    old = hub.repos["ann/tiny"].commit
    files = hub.repos["ann/tiny"].files
    hub.repos["ann/tiny"] = Repo({**files, WEIGHTS: b"newer" * 100})
    limner("pull", "ann/tiny")
    paths = {row["path"] for row in json.loads(limner("ls", "--json").stdout)}
    assert paths >= {"hf:ann/tiny", f"hf:ann/tiny@{old}"}
    assert limner("rm", f"ann/tiny@{old}", "--yes").returncode == 0
    paths = {row["path"] for row in json.loads(limner("ls", "--json").stdout)}
    assert "hf:ann/tiny" in paths
    assert f"hf:ann/tiny@{old}" not in paths
    assert limner("verify", "--config", TOY).returncode == 0


# -- verify ----------------------------------------------------------------------------------------


def test_flipped_bytes_are_found_and_the_file_is_named(hub, limner, config) -> None:
    limner("pull", "ann/tiny")
    done = limner("verify", "--config", config)
    assert (done.returncode, done.stdout) == (0, "little: 2 files as recorded\n")
    flip(snapshot(hub) / WEIGHTS)
    done = limner("verify", "little", "--config", config)
    assert done.returncode == 1
    assert str(snapshot(hub) / WEIGHTS) in done.stderr
    assert limner("verify", "--config", config).returncode == 1  # it is not got used to
    assert limner("verify", "--renew", "--config", config).returncode == 0
    assert limner("verify", "--config", config).returncode == 0


def test_what_rotted_in_the_cache_is_mended_by_pulling_again(hub, limner, config) -> None:
    limner("pull", "ann/tiny")
    flip(snapshot(hub) / WEIGHTS)
    done = limner("pull", "ann/tiny")
    assert done.returncode == 1
    assert f"{WEIGHTS} is damaged" in done.stderr
    assert limner("pull", "ann/tiny").returncode == 0
    assert limner("verify", "--config", config).returncode == 0


def test_what_has_no_manifest_gets_one(hub, limner) -> None:
    first, second = limner("verify"), limner("verify")
    assert first.stdout == (
        "sketch: recorded 3 files\n"
        "sketch: recorded 1 file\n"  # its enlarger
        "sketch-flux: recorded 4 files\n"
        "sketch-flux: 1 file as recorded\n"  # the same one
    )
    assert second.stdout == (
        "sketch: 3 files as recorded\n"
        "sketch: 1 file as recorded\n"
        "sketch-flux: 4 files as recorded\n"
        "sketch-flux: 1 file as recorded\n"
    )


def test_after_a_touch_the_new_time_is_remembered(hub, limner, config) -> None:
    limner("pull", "ann/tiny")
    os.utime(snapshot(hub) / WEIGHTS, ns=(1, 1))
    assert limner("verify", "--config", config).returncode == 0
    known = manifest.load(manifest.place(hub.data, snapshot(hub)))
    assert known[WEIGHTS].mtime_ns == 1


def test_what_cannot_be_verified_is_told(hub, limner, config) -> None:
    assert "there is no model nobody" in limner("verify", "nobody", "--config", TOY).stderr
    assert "toy has no weights" in limner("verify", "toy", "--config", TOY).stderr
    limner("pull", "ann/tiny")
    manifest.place(hub.data, snapshot(hub)).write_text("{")
    done = limner("verify", "--config", config)
    assert done.returncode == 1
    assert "--renew" in done.stderr


# -- The way to a picture --------------------------------------------------------------------------


def test_what_was_pulled_is_loaded(hub, limner, tmp_path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "sd"
    tiny.sd().save_pretrained(folder)
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    index = json.loads(files["model_index.json"])
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]  # not fetched
    checker = {"safety_checker/model.safetensors": b"x", "safety_checker/config.json": b"{}"}
    hub.repos["ann/sd"] = Repo({**files, **checker, "model_index.json": json.dumps(index).encode()})
    done = limner("pull", "ann/sd")
    assert done.returncode == 0, done.stderr
    (spec,) = worker_spec(load(models=[("sd", "hf:ann/sd")])).models
    assert len(spec.manifests) == 1
    model = families.loader("sd")(spec, "cpu")
    assert model.tasks == ("generate", "edit", "inpaint")


# -- ps --------------------------------------------------------------------------------------------


def test_a_running_server_tells_what_it_has_in_memory(toy, limner) -> None:
    done = limner("ps", "--url", toy.url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^toy +resident +1\.05 MB +0 +0", done.stdout, re.MULTILINE), done.stdout
    status = msgspec.json.decode(limner("ps", "--json", "--url", toy.url).stdout, type=Status)
    assert [(each.id, each.state) for each in status.models] == [("toy", "resident")]
    assert [each.device for each in status.workers] == ["cpu"]
    assert status.uptime > 0


def test_status_is_behind_the_guard_like_every_route(toy) -> None:
    with toy.client() as client:
        assert client.get("/statusz").status_code == 200
        assert client.get("/statusz", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


def test_a_server_that_is_not_there_is_told_in_a_line(limner) -> None:
    done = limner("ps", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == "no server answers on http://127.0.0.1:1\n"


def test_something_else_that_answers_is_told(hub, limner) -> None:
    done = limner("ps", "--url", hub.url)
    assert done.returncode == 1
    assert "answers 404" in done.stderr
