"""What is measured in the few calls on a GPU that is lent for minutes."""

import json
import re
from pathlib import Path

import pytest
import torch

from bench import engine, plans, targets
from bench.architectures import ARCHITECTURES, SMALL_SIDE
from bench.plans import PLANS, Plan

MINUTES = ("graphs", "kernels", "tunings", "lossy", "compiled again")  # stages that may be cut off


@pytest.mark.parametrize("number", list(PLANS))
def test_plans_ask_for_what_there_is(number: int) -> None:
    for small in (False, True):
        for name, stage in plans.turns(PLANS[number], small):
            assert name in ARCHITECTURES
            assert stage in engine.everything(name, small)


def test_a_plan_that_is_cut_off_has_a_row_for_every_target() -> None:
    """Whole pictures and their arithmetic, and those at once, before what takes minutes."""
    turns = plans.turns(PLANS[1], small=False)
    first = next(i for i, (_, stage) in enumerate(turns) if stage == MINUTES[0])
    wanted = [(name, stage) for name, *_ in targets.TARGETS for stage in ("against bare",)]
    assert {*wanted, *((name, "operations") for name, _ in wanted)} <= {*turns[:first]}
    compiled = next(i for i, (_, stage) in enumerate(turns) if stage == "tunings")
    assert ("sd15", f"batches at {targets.TOGETHER_SIDE} px") in turns[:compiled]


def test_plans_leave_time_for_starting_and_for_tests() -> None:
    assert len(PLANS) <= 2
    assert sum(plan.seconds for plan in PLANS.values()) <= 650


def test_what_is_served_comes_last() -> None:
    turns = [turn for plan in PLANS.values() for turn in plans.turns(plan, small=False)]
    served = [stage == "served" for _, stage in turns]
    assert any(served)
    assert served == sorted(served)


def test_models_take_turns_stage_by_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = (("picture,operations", "sd15 sdxl"), ("batches at 512 px", "sdxl"))
    monkeypatch.setattr(plans, "PLANS", {1: Plan(60, 1, turns)})
    engine.main(["--device", "cpu", "--small", "--plan", "1", "--out", str(tmp_path)])
    told = re.findall(r"^(\w+): (.*): [\d.]+ s$", capsys.readouterr().err, re.MULTILINE)
    assert [each for each in told if each[1] != "build"] == [
        *(("sd15", "picture"), ("sdxl", "picture")),
        *(("sd15", "operations"), ("sdxl", "operations")),
        ("sdxl", f"batches at {SMALL_SIDE} px"),
    ]
    report = json.loads((tmp_path / "engine-cpu-plan-1.json").read_text())
    assert [row["model"] for row in report["models"]] == ["sd15", "sdxl"]
    assert report["plan"] == 1


@pytest.mark.parametrize("more", [("--only", "sd15"), ("--stages", "picture"), ()])
def test_a_plan_is_whole_and_for_a_gpu(more: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        engine.options(["--device", "cpu", "--plan", "1", *more])


@pytest.mark.timeout(900)
@pytest.mark.long
@pytest.mark.parametrize("number", list(PLANS))
def test_plans_come_to_their_ends(tmp_path: Path, number: int) -> None:
    said = ["--small", "--plan", str(number), "--budget-seconds", "800", "--rounds", "1"]
    try:
        engine.main(["--device", "cpu", *said, "--out", str(tmp_path)])
    finally:
        torch._dynamo.reset()
    (path,) = tmp_path.iterdir()
    report = json.loads(path.read_text())
    assert not report["failures"]
    assert not any(row["skipped"] for row in report["models"])
    named = {(line["picture"].split()[0], line["way"]) for line in report["targets"]}
    if number == 1:
        ways = ("plain diffusers", "limner", "compiled")
        assert {(name, way) for name, *_ in targets.TARGETS for way in ways} <= named
