"""The command line as its users type it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "configs" / "toy.toml")


def limner(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=90)


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv=['limner','--help']\n"
        "from server.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'fastapi', 'numpy', 'pydantic', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.5


def test_the_server_never_imports_torch() -> None:
    code = (
        "import sys, server.commands\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_worker_never_imports_the_server() -> None:
    code = (
        "import sys, models.worker, models.families.toy\n"
        "heavy = {'server', 'fastapi', 'starlette', 'pydantic', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_paint_writes_the_picture_and_tells_seed_and_seconds(tmp_path: Path) -> None:
    out = tmp_path / "owl.webp"
    done = limner("paint", "an owl", "-o", str(out), "--config", TOY, "--seed", "7", "--steps", "3")
    assert done.returncode == 0, done.stderr
    with Image.open(out) as picture:
        assert picture.size == (64, 64)
    assert "seed 7" in done.stdout
    assert done.stdout.strip().endswith("s")


def test_paint_edits_under_a_mask(tmp_path: Path) -> None:
    base, mask, out = (tmp_path / name for name in ("base.png", "mask.png", "out.png"))
    Image.new("RGB", (64, 64), (9, 8, 7)).save(base)
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 32, 64))
    half.save(mask)
    done = limner(
        *("paint", "an owl", "-o", str(out), "--config", TOY),
        *("--image", str(base), "--mask", str(mask)),
    )
    assert done.returncode == 0, done.stderr
    with Image.open(out) as painted:
        assert painted.crop((32, 0, 64, 64)).getcolors() == [(32 * 64, (9, 8, 7))]
        assert painted.crop((0, 0, 32, 64)).getcolors() != [(32 * 64, (9, 8, 7))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--size", "big"], "big"),
        (["--size", "9x9"], "width"),
        (["-o", "out.gif"], "must end in"),
        (["--image", "no-such.png"], "no-such.png"),
        (["--model", "nobody"], "nobody"),
    ],
)
def test_paint_says_what_is_wrong(tmp_path: Path, words: list[str], expected: str) -> None:
    done = limner("paint", "an owl", "--config", TOY, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_models_are_listed() -> None:
    done = limner("models", "--config", TOY)
    assert done.returncode == 0
    assert "toy" in done.stdout


def test_a_configuration_is_checked(tmp_path: Path) -> None:
    assert limner("config", "check", TOY).returncode == 0
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(f"[server]\nprot = 1\n[[model]]\nid = {json.dumps('toy')}\n")
    done = limner("config", "check", str(wrong))
    assert done.returncode == 1
    assert "prot" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_machines_are_kept_out_unless_that_is_meant() -> None:
    done = limner("serve", "--config", TOY, "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "insecure" in done.stderr


def test_a_taken_port_is_told_at_once(toy) -> None:
    port = toy.url.rpartition(":")[2]
    done = limner("serve", "--config", TOY, "--port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_a_gpu_that_is_not_there_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    for words in (("paint", "an owl", "-o", "x.png"), ("serve", "--port", "0")):
        done = limner(*words, "--device", "cuda")
        assert done.returncode == 1
        assert "cuda" in done.stderr.lower()
        assert "Traceback" not in done.stderr
