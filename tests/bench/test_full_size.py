"""The script for GPUs, scaled down: it measures, keeps what it has, and fails when it must."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import full_size, sitting, stages
from bench.architectures import ARCHITECTURES, SMALL_SIDE, built, outlined
from bench.stages import Subject
from models import merge
from models.shell import denoiser_name

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command with these options; what it wrote, and what it exited with as "exit"."""

    def command(*options: str) -> dict[str, Any]:
        path = tmp_path / "figures.json"
        said = ["--device", "cpu", "--small", "--rounds", "1", "--only", "sd15", *options]
        said += ["--out", str(path)]
        monkeypatch.setattr(sys, "argv", ["full_size", *said])
        try:
            full_size.main()
            code = None
        except SystemExit as error:
            code = error.code
        return json.loads(path.read_text()) | {"exit": code}

    return command


@pytest.fixture
def subject() -> Subject:
    shape = ARCHITECTURES["sd15"]
    model = built(shape, torch.device("cpu"), torch.float32, small=True)
    return Subject("sd15", shape, model, True, 1, [])


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_denoisers_are_as_large_as_published(name: str) -> None:
    shape = ARCHITECTURES[name]
    kind = type(getattr(pipe := shape.start(), denoiser_name(pipe)))
    table = {"pos_embed_max_size": 8} if "pos_embed_max_size" in shape.denoiser else {}
    network = outlined(kind, shape.denoiser | table)  # a table of positions is no parameter
    count = sum(parameter.numel() for parameter in network.parameters())
    assert math.isclose(count, shape.parameters, rel_tol=1e-3)


def test_everything_is_measured_and_gated(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    report = run("--peak-tflops", "1")
    assert report["exit"] is None
    (row,) = report["models"]
    assert not row["failed"]
    assert not row["skipped"]
    assert len(row["gates"]) == 6
    missing = set(full_size.COLUMNS) - {"peak_gb"} - set(row)
    assert not missing
    assert row["tflop_per_step"] > 0
    assert [each["canvases"] for each in row[f"batch_{SMALL_SIDE}"]] == [1, 2]
    assert "| sd15 | 64 | 4 |" in capsys.readouterr().out


def test_pictures_that_are_mixed_up_fail_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merge.split
    monkeypatch.setattr(merge, "split", lambda *given: whole(*given)[::-1])
    assert "off the same alone" in run()["exit"]


def test_calls_that_are_not_shared_fail_the_gate(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "RULES", {})
    stages.curve(subject, SMALL_SIDE)
    (gate,) = [gate for gate in subject.gates if not gate["ok"]]
    assert "ticks beyond those alone" in gate["what"]


def test_a_picture_that_is_not_finite_fails_the_stage(subject: Subject) -> None:
    with torch.no_grad():
        subject.model.pipe.vae.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(sitting.Spoiled, match="not_finite"):
        stages.picture(subject)


def test_a_stage_that_breaks_fails_the_run_but_not_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "encode", lambda subject: 1 / 0)
    report = run()
    assert "sd15: encode: ZeroDivisionError" in report["exit"]
    assert f"batch_{SMALL_SIDE}" in report["models"][0]


def test_when_the_time_is_over_the_rest_is_named(run: Run) -> None:
    report = run("--budget-seconds", "0")
    assert report["exit"] is None
    assert report["models"][0]["skipped"] == ["build"]
