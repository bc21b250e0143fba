"""The script for GPUs, scaled down: it measures, keeps what it has, and fails when it must."""

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import engine, lossy, publish, running, sitting, stages, tables, tunings
from bench.architectures import ARCHITECTURES, SMALL_SIDE, built, outlined
from bench.lossy import compiled
from bench.subject import Subject
from models import attention, compilation, eight, linears, merge, weights
from models.graphs import Graphs
from models.linears import by_onednn
from models.merge import Forward, plainly
from models.pixels import Arrival
from models.shell import denoiser_name

Run = Callable[..., dict[str, Any]]
COMPANY = f"batches at {SMALL_SIDE} px"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command with these options; what it wrote, and what it exited with as "exit"."""

    def command(*options: str) -> dict[str, Any]:
        path = tmp_path / "figures.json"
        said = ["--device", "cpu", "--small", "--rounds", "1", "--only", "sd15", *options]
        try:
            engine.main([*said, "--out", str(path)])
            code = None
        except SystemExit as error:
            code = error.code
        return json.loads(path.read_text()) | {"exit": code}

    return command


@pytest.fixture
def subject() -> Subject:
    shape = ARCHITECTURES["sd15"]
    model = built(shape, torch.device("cpu"), torch.float32, small=True)
    return Subject("sd15", shape, model, True, 1, "sd")


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
    assert len(row["gates"]) == 8 + len(row["kernels"])
    assert row["served"][0]["canvases"] == 1
    missing = set(tables.COLUMNS) - set(row)
    assert not missing
    assert row["tflop_per_step"] > 0
    assert row["step_forecast"]["gain"] > 0
    assert "UNet2DConditionModel" in row["step_cache"]["refused"]
    assert "cpu" in row["fp8"]["refused"]
    assert row["compiled"] is False
    assert [each["canvases"] for each in row[f"batch_{SMALL_SIDE}"]] == [1, 2]
    assert "| sd15 | 64 | 4 |" in capsys.readouterr().out


def test_arithmetic_is_the_same_by_whichever_kernels(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linears, "usable", torch.backends.mkldnn.is_available)
    monkeypatch.setattr(linears, "LEAST", 0)
    tuned = replace(subject.model, way=by_onednn(subject.model.pipe.unet, plainly))
    assert tuned.way is not plainly
    step, rest = sitting.counted(replace(subject.model, way=plainly), subject.job(steps=1))
    assert min(step, rest) > 0
    assert sitting.counted(tuned, subject.job(steps=1)) == (step, rest)


def test_a_step_is_held_to_the_faster_of_two_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "by_onednn", lambda layer, way: way)
    plain = engine.reached(torch.device("cpu"))
    monkeypatch.setattr(engine, "by_onednn", lambda layer, way: lambda product: None)
    assert engine.reached(torch.device("cpu")) > 10 * plain > 0


def test_pictures_that_are_mixed_up_fail_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merge.split
    monkeypatch.setattr(merge, "split", lambda *given: whole(*given)[::-1])
    assert "off the same alone" in run("--stages", COMPANY)["exit"]


def test_calls_that_are_not_shared_fail_the_gate(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "RULES", {})
    stages.curve(subject, SMALL_SIDE)
    (gate,) = [gate for gate in subject.gates if not gate["ok"]]
    assert "ticks beyond those alone" in gate["what"]


def test_pictures_that_are_long_on_their_way_cost_no_calls(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are on a GPU: each canvas waits for its own."""
    waited: list[Any] = []
    monkeypatch.setattr(Arrival, "ready", lambda arrival: False)
    monkeypatch.setattr(Arrival, "wait", lambda arrival: waited.append(arrival))
    stages.curve(subject, SMALL_SIDE)
    assert waited
    assert all(gate["ok"] for gate in subject.gates)


def test_the_stock_pipeline_attends_as_the_studio_does(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its denoiser and its decoder, while prompts are read in torch's own order by both."""
    seen: dict[str, int] = {}
    pipe, usual = subject.model.pipe, torch._C._get_sdp_priority_order()[0]
    parts = {"unet": pipe.unet, "decoder": pipe.vae.decoder, "text": pipe.text_encoder}
    for name, part in parts.items():
        inner = next(inner for inner in part.modules() if not [*inner.children()])
        inner.register_forward_pre_hook(
            lambda *_, name=name: seen.update({name: torch._C._get_sdp_priority_order()[0]})
        )
    expected = stages.bare(subject.model, subject.job())
    assert set(seen.values()) == {usual}
    monkeypatch.setattr(attention, "order_for", lambda device: attention.CUDNN_FIRST)
    found = stages.stock(subject.model, subject.job())
    first = int(attention.CUDNN_FIRST[0].value)
    assert seen == {"unet": first, "decoder": first, "text": usual}
    assert torch.equal(found, expected)
    seen.clear()
    stages.bare(subject.model, subject.job())
    assert set(seen.values()) == {usual}


def test_a_picture_that_is_not_finite_fails_the_stage(subject: Subject) -> None:
    with torch.no_grad():
        subject.model.pipe.vae.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(sitting.Spoiled, match="not_finite"):
        stages.picture(subject)


def test_a_stage_that_breaks_fails_the_run_but_not_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "encode", lambda subject: 1 / 0)
    report = run("--stages", f"encode,{COMPANY}")
    assert "sd15: encode: ZeroDivisionError" in report["exit"]
    told = re.findall(r"^sd15: (.*): [\d.]+ s(.*)$", capsys.readouterr().err, re.MULTILINE)
    assert told == [("build", ""), ("encode", ", failed"), (COMPANY, "")]
    assert f"batch_{SMALL_SIDE}" in report["models"][0]


def test_a_server_that_does_not_get_ready_fails_its_stage_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no weights here')"]
    monkeypatch.setattr(running, "limner", lambda *_, **__: command)
    report = run("--stages", "encode,served,lossy")
    assert "sd15: served: NotReady" in report["exit"]
    assert "no weights here" in report["exit"]
    assert "lossy_plain_seconds" in report["models"][0]


@pytest.mark.parametrize(("shift", "ok"), [(0.0, True), (0.5, False)])
def test_another_way_to_run_the_denoiser_must_paint_the_same(
    subject: Subject, shift: float, ok: bool
) -> None:
    def shifted(forward: Forward) -> tuple[torch.Tensor, ...]:
        return tuple(part + shift for part in plainly(forward))

    tuned = replace(subject.model, way=shifted)
    told = tunings.against(subject, "shifted", subject.model, tuned)
    assert told["step_seconds"] > 0
    assert [gate["ok"] for gate in subject.gates if gate["what"] == "shifted: off eager"] == [ok]


def test_what_is_not_recorded_is_not_measured(subject: Subject) -> None:
    def unasked(run: Callable[[], Any]) -> Any:
        raise RuntimeError("waits for the device")

    tuned = replace(subject.model, way=Graphs(plainly, unasked))
    assert tunings.against(subject, "graphs", subject.model, tuned) == {"recorded": 0}
    assert not subject.gates


def test_the_lossy_say_whether_the_model_was_compiled(subject: Subject) -> None:
    assert not compiled(subject.model)
    compilation.in_regions(subject.model.pipe.unet, subject.model.pipe.vae.decoder)
    assert compiled(subject.model)


def test_each_tuning_is_kept_at_once(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(tunings, "against", lambda *_: {"step_gain": 2.0})
    subject.keep = kept.append
    told = tunings.tunings(subject)
    assert kept == [{"tunings": told["tunings"]}]
    assert kept[0]["tunings"] == {"compile": {"step_gain": 2.0}}


def test_what_a_stage_kept_outlives_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "encode", lambda subject: subject.keep({"half": 1}) or 1 / 0)
    (row,) = run("--stages", "encode")["models"]
    assert row["half"] == 1
    assert "encode" in row["failed"]


def test_what_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine.main(["--device", "cpu", "--small", "--stages", "picnic"])
    assert "there is no picnic" in capsys.readouterr().err
    some = ["--only", "sketch,sd15", "--stages", "batches at 512 px"]
    with pytest.raises(SystemExit):
        engine.main(["--device", "cpu", *some])
    assert "sketch has none of batches at 512 px" in capsys.readouterr().err


def test_when_the_time_is_over_the_rest_is_named(run: Run) -> None:
    report = run("--budget-seconds", "0")
    assert report["exit"] is None
    assert report["models"][0]["skipped"] == ["build"]


@pytest.mark.timeout(400)  # torch traces a second for each part, on an idle machine
@pytest.mark.long
def test_tunings_are_measured_and_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled by a backend that compiles nothing, which takes minutes less."""
    monkeypatch.setattr(tunings, "BACKEND", "eager")
    shape = ARCHITECTURES["flux-dev"]
    model = built(shape, torch.device("cpu"), torch.float32, small=True)
    subject = Subject("flux-dev", shape, model, True, 1, "flux", [])
    try:
        figures = tunings.tunings(subject)
    finally:
        torch._dynamo.reset()
    assert {gate["what"] for gate in subject.gates} >= {
        "compile: graphs compiled late",
        "compile: off eager",
    }
    assert all(gate["ok"] for gate in subject.gates)
    assert figures["tunings"]["compile"]["off_max_levels"] == 0


def test_on_a_cpu_both_shipped_models_are_measured() -> None:
    turns = engine.options(["--device", "cpu"]).turns
    assert list(dict.fromkeys(name for name, _ in turns)) == ["sketch", "sketch-flux"]
    assert {"served", "lossy", "kernels"} <= {stage for _, stage in turns}
    assert not {"graphs", "tunings", "compiled again"} & {stage for _, stage in turns}


def test_a_failed_gate_keeps_no_figure_from_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text("<!-- bench: engine-cpu -->\n<!-- end -->\n")
    for name, place in (("RESULTS", tmp_path / "kept"), ("README", page), ("PAGE", page)):
        monkeypatch.setattr(publish, name, place)
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(engine, "SCRATCH", tmp_path / "out")
    monkeypatch.setattr(stages, "encode", lambda subject: subject.gate("owls", 2, 1) or {"owls": 2})
    said = ("--device", "cpu", "--only", "sketch-flux", "--stages", "encode", "--publish")
    with pytest.raises(SystemExit, match="sketch-flux: owls is 2, and may be 1"):
        engine.main(said)
    kept = json.loads((tmp_path / "kept" / "engine-cpu.json").read_text())
    assert kept["models"][0]["owls"] == 2
    assert "- Not passed: sketch-flux: owls is 2, and may be 1" in page.read_text()


def test_stand_ins_for_text_encoders_are_not_timed_as_if_they_were_real() -> None:
    for made_up, cell in ((True, "–"), (False, "0.5")):
        head, _, row = tables.models([{"model": "x", "made_up": made_up, "text_seconds": 0.5}])
        assert row[head.index("text s")] == cell


def test_recording_is_not_tried_where_nothing_is_recorded(subject: Subject) -> None:
    assert tunings.graphs(subject) == {"tunings": {"graphs": {"refused": "cpu has none"}}}


def test_what_there_is_no_time_for_is_named(subject: Subject) -> None:
    subject.deadline = 0.0
    told = tunings.measured(subject, {"compile": plainly}, subject.model)
    assert told == {"tunings": {"compile": {"skipped": "no time was left"}}}
    assert lossy.lossy(subject)["fp8"] == {"skipped": "no time was left"}


def test_shortcuts_are_measured_together_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU could multiply in 8 bits."""
    monkeypatch.setattr(weights, "LARGE", 1)
    monkeypatch.setattr(eight, "refuse", lambda device: None)
    shape = ARCHITECTURES["flux-dev"]
    model = built(shape, torch.device("cpu"), torch.float32, small=True)
    subject = Subject("flux-dev", shape, model, True, 1, "flux")
    kept: dict[str, Any] = {}
    subject.keep = kept.update
    told = lossy.lossy(subject)
    assert kept == told
    assert all(told[key]["picture_seconds"] > 0 for key in tables.SHORTCUTS)
    assert told["fp8+step_forecast"]["off_mean_levels"] > 0
    assert "steps: 12 of 20 were predicted" in told["fp8+step_forecast"]["notes"][0]
    head, _, *rows = tables.shortcuts([told | {"model": "flux-dev"}])
    assert [row[1] for row in rows] == list(tables.SHORTCUTS)
    assert {len(row) for row in rows} == {len(head)}


def test_what_has_no_figures_says_why() -> None:
    ways = {"graphs": {"refused": "cpu has none"}, "compile": {"recorded": 0}}
    lines = [*tables.tunings([{"model": "x", "tunings": ways}])][2:]
    assert [line[1] for line in lines] == [
        "graphs (cpu has none)",
        "compile (nothing was recorded)",
    ]
    row = {"model": "x", "compiled": False, "lossy_plain_seconds": 1.0, "fp8": lossy.skipped()}
    (line,) = [*tables.shortcuts([row])][2:]
    assert line[1] == "fp8 (no time was left)"
