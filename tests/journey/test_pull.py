"""`limner pull` and paths that begin with `hf:`, against a hub of our own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journey.fakehub import NEEDED, WEIGHTS, Done, Hub, Repo, sha256

ROOT = Path(__file__).parents[2]


def fetched(hub: Hub, name: str = "ann/tiny") -> set[str]:
    """The files of the repository's present snapshot."""
    home = hub.cache / f"models--{name.replace('/', '--')}" / "snapshots" / hub.repos[name].commit
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def found(limner: Callable[..., Done]) -> list[str]:
    return [each["path"] for each in json.loads(limner("ls", "--json").stdout)]


def test_a_dry_run_tells_and_fetches_nothing(hub, limner) -> None:
    done = limner("pull", "ann/tiny", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"7 files, {sum(map(len, NEEDED.values())) / 1e3:.1f} kB" in done.stdout
    assert "licence: apache-2.0" in done.stdout
    assert str(hub.cache / "models--ann--tiny") in done.stdout
    assert not hub.cache.exists()


def test_only_what_is_needed_is_fetched_and_checked(hub, limner, process) -> None:
    done = process("pull", "ann/tiny")
    assert done.returncode == 0, done.stderr
    assert fetched(hub) == NEEDED.keys()
    assert "--model tiny=hf:ann/tiny" in done.stdout
    assert 'path = "hf:ann/tiny"' in done.stdout
    (manifest,) = (hub.data / "manifests").iterdir()
    sums = {
        name: each["sha256"] for name, each in json.loads(manifest.read_text())["files"].items()
    }
    assert sums == {n: sha256(d) for n, d in NEEDED.items() if n.endswith(".safetensors")}
    assert "hf:ann/tiny" in found(limner)


def test_without_weights_it_is_what_single_files_lack(hub, limner) -> None:
    done = limner("pull", "--bare", "ann/tiny")
    assert done.returncode == 0, done.stderr
    assert fetched(hub) == {name for name in NEEDED if not name.endswith(".safetensors")}
    assert limner("pull", "ann/tiny").returncode == 0
    assert fetched(hub) == NEEDED.keys()


def test_what_is_here_is_not_fetched_again(hub, limner) -> None:
    limner("pull", "ann/tiny")
    hub.asked.clear()
    done = limner("pull", "hf:ann/tiny")
    assert done.returncode == 0, done.stderr
    assert "of which" in done.stdout
    assert hub.asked == []


def test_a_connection_that_drops_is_taken_up_where_it_was(hub, limner) -> None:
    large = bytes(24 << 20)
    hub.repos["ann/tiny"] = Repo({**NEEDED, WEIGHTS: large}, cut={WEIGHTS: 16 << 20})
    done = limner("pull", "ann/tiny")
    assert done.returncode == 0, done.stderr
    parts = [each for each in hub.asked if each.startswith(WEIGHTS)]
    assert len(parts) == 2
    assert 0 < int(parts[1].split()[1]) <= 16 << 20
    assert fetched(hub) == NEEDED.keys()


def test_after_an_interrupt_it_goes_on_with_what_is_missing(hub, limner) -> None:
    hub.repos["ann/tiny"].stuck.add("text_encoder/model.fp16.safetensors")
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "pull", "ann/tiny"],
        cwd=ROOT,
        env=os.environ | hub.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # What is started in the background may have been told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert hub.halfway.wait(30)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130, said
    assert said.strip().startswith("interrupted")
    assert "Traceback" not in said
    assert WEIGHTS in fetched(hub)
    assert "model_index.json" not in fetched(hub)
    assert "hf:ann/tiny" not in found(limner)  # half a model is none
    hub.repos["ann/tiny"].stuck.clear()
    hub.asked.clear()
    assert limner("pull", "ann/tiny").returncode == 0
    assert fetched(hub) == NEEDED.keys()
    assert not any(each.startswith(WEIGHTS) for each in hub.asked)


def test_damaged_weights_are_refused_and_named(hub, limner) -> None:
    hub.repos["ann/tiny"].damaged.add(WEIGHTS)
    done = limner("pull", "ann/tiny")
    assert done.returncode == 1
    assert WEIGHTS in done.stderr
    assert "SHA-256" in done.stderr
    assert "hf:ann/tiny" not in found(limner)
    hub.repos["ann/tiny"].damaged.clear()
    assert limner("pull", "ann/tiny").returncode == 0
    assert "hf:ann/tiny" in found(limner)


def test_the_old_snapshot_is_served_until_the_new_one_is_whole(hub, limner) -> None:
    assert limner("pull", "ann/tiny").returncode == 0
    old = hub.repos["ann/tiny"].commit
    hub.repos["ann/tiny"] = Repo({**NEEDED, WEIGHTS: b"newer" * 100}, damaged={WEIGHTS})
    assert limner("pull", "ann/tiny").returncode == 1
    ref = hub.cache / "models--ann--tiny" / "refs" / "main"
    assert ref.read_text() == old
    hub.repos["ann/tiny"].damaged.clear()
    assert limner("pull", "ann/tiny").returncode == 0
    assert ref.read_text() == hub.repos["ann/tiny"].commit != old


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bob/nothing"], "there is no repository bob/nothing"),
        (["ann/tiny", "--revision", "v9"], "ann/tiny has no revision v9"),
        (["ann/gated"], "hf auth login"),
        (["ann/huge"], "GB free"),
        (["ann/pickled"], "unet is there only as a pickle"),
        (["ann/single"], "--file NAME fetches one of a.safetensors"),
        (["ann/lora"], "ann/lora is a LoRA"),
        (["ann/single", "--file", "c.safetensors"], "has no file c.safetensors"),
        (["ann/single", "--file", "b.ckpt"], "b.ckpt is not a .safetensors file"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_a_line(hub, limner, words, expected) -> None:
    hub.repos["ann/gated"] = Repo(NEEDED, gated=True)
    hub.repos["ann/huge"] = Repo(NEEDED, sizes={WEIGHTS: 10**17})
    hub.repos["ann/single"] = Repo({"a.safetensors": b"a", "b.ckpt": b"b"})
    hub.repos["ann/lora"] = Repo({"a.safetensors": b"a"}, tags=("lora",))
    pickled = {name: data for name, data in NEEDED.items() if name != WEIGHTS}
    hub.repos["ann/pickled"] = Repo({**pickled, "unet/diffusion_pytorch_model.bin": b"x"})
    done = limner("pull", *words)
    assert done.returncode == 1
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, "127.0.0.1:1 cannot be reached"),
    ],
)
def test_a_hub_out_of_reach_is_told_in_a_line(process, environment, expected) -> None:
    done = process("pull", "ann/tiny", **environment)
    assert done.returncode == 1
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_name_that_is_none_is_told(process) -> None:
    done = process("pull", "../../etc")
    assert done.returncode == 2
    assert "ORG/NAME" in done.stderr


def test_a_single_file_is_fetched_and_said_how_to_use(hub, limner) -> None:
    hub.repos["ann/lora"] = Repo({"Ink.safetensors": b"a", "B.safetensors": b"b"}, tags=("lora",))
    done = limner("pull", "ann/lora", "--file", "Ink.safetensors")
    assert done.returncode == 0, done.stderr
    assert fetched(hub, "ann/lora") == {"Ink.safetensors"}
    assert "[[lora]]" in done.stdout
    assert "Ink.safetensors" in done.stdout


def test_a_model_that_was_not_pulled_is_left_out_and_told(hub, limner, tmp_path) -> None:
    config = tmp_path / "my.toml"
    table = '[[model]]\nid = "tiny"\nfamily = "sd"\nnative = ["64x64"]\npath = "hf:ann/tiny"\n'
    config.write_text(table)
    done = limner("config", "check", str(config))
    assert done.returncode == 1
    assert "`limner pull ann/tiny`" in done.stderr
    assert limner("pull", "ann/tiny").returncode == 0
    assert limner("config", "check", str(config)).returncode == 0
