"""Whole pictures against their floors, and against what is to be reached on one H200."""

from typing import Any

import pytest

from bench import targets

FLUX: dict[str, Any] = {
    "model": "flux-dev",
    "side": 1024,
    "steps": 28,
    "tflop_per_step": 74.4,
    "tflop_to_decode": 10.5,
    "as_it_comes_seconds": 4.8,
    "bare_seconds": 4.3,
    "picture_seconds": 4.2,
    "compiled": True,
    "lossy_steps": 28,
    "tunings": {
        "graphs": {"recorded": 0},
        "compile": {"picture_seconds": 3.4, "company": [{"canvases": 1}]},
        "compile+graphs": {"skipped": "no time was left"},
    },
    "step_cache": {"picture_seconds": 0.4},
    "fp8": {"refused": "no"},
    "step_forecast": {"picture_seconds": 2.5},
    "fp8+step_forecast": {"picture_seconds": 1.9},
}


def told(row: dict[str, Any], device: str = targets.H200) -> dict[tuple[str, str], Any]:
    lines = targets.lines([row], device, targets.CEILINGS[targets.H200])
    return {(line["picture"], line["way"]): line for line in lines}


def test_each_way_to_paint_a_picture_is_held_to_its_target() -> None:
    lines = {way: line.get("met") for (_, way), line in told(FLUX).items()}
    assert lines == {
        "plain diffusers": None,
        "plain diffusers, limner's kernels": None,
        "limner": "no",
        "compiled": "yes",
        "compiled, lossy: step_cache": None,  # random weights may skip as much as they like
        "compiled, lossy: step_forecast": "no",
        "compiled, lossy: fp8+step_forecast": "yes",
    }


def test_a_floor_is_a_picture_s_arithmetic_at_the_device_s_best() -> None:
    line = told(FLUX)["flux-dev 1024², 28 steps", "compiled"]
    assert line["floor_seconds"] == pytest.approx((28 * 74.4 + 10.5) / 790, rel=1e-3)
    assert line["ratio"] * line["share"] == pytest.approx(1, rel=1e-3)
    (uncounted,) = targets.lines([{"model": "x", "picture_seconds": 1.0}], targets.H200, 790)
    assert "floor_seconds" not in uncounted


@pytest.mark.parametrize(
    ("seconds", "met"), [(1.06, "no"), (1.05, "yes"), (0.86, "yes"), (0.85, "yes, at best")]
)
def test_what_is_better_still_is_said(seconds: float, met: str) -> None:
    row = {"model": "sdxl", "side": 1024, "steps": 30, "picture_seconds": seconds}
    (line,) = told(row).values()
    assert line["met"] == met


def test_without_kernels_of_its_own_limner_has_but_one_to_be_compared_with() -> None:
    row = FLUX | {"as_it_comes_seconds": None}
    assert told(row)["flux-dev 1024², 28 steps", "plain diffusers"]["seconds"] == 4.3
    assert ("flux-dev 1024², 28 steps", "plain diffusers, limner's kernels") not in told(row)


def test_eight_at_once_are_held_to_one_by_one_untuned() -> None:
    alone = {"canvases": 1, "picture_seconds": 0.3, "picture_gain": 1.0}
    row = {
        "model": "sd15",
        "side": 512,
        "steps": 30,
        "batch_512": [alone, {"canvases": 8, "picture_seconds": 0.11, "tflop_per_picture": 50.7}],
        "tunings": {"graphs": {"company": [alone, {"canvases": 8, "picture_seconds": 0.09}]}},
    }
    lines = {way: line for (_, way), line in told(row).items()}
    assert lines["limner"]["met"] == "no: 2.73 ×"
    assert lines["limner"]["floor_seconds"] == pytest.approx(50.7 / 790, rel=1e-3)
    assert lines["graphs"]["met"] == "yes: 3.33 ×"
    assert lines["graphs"]["target"] == "≥ 3 × one by one"
    row["batch_512"][1] = {"canvases": 8, "out_of_memory": True}
    assert {way for _, way in told(row)} == {"graphs"}


def test_other_devices_and_other_pictures_have_no_target() -> None:
    for row, device in ((FLUX, "NVIDIA L4"), (FLUX | {"side": 64}, targets.H200)):
        assert not any("target" in line for line in told(row, device).values())


def test_the_table_shows_what_is_known() -> None:
    lines = targets.lines([FLUX], targets.H200, 790)
    rows = targets.table(lines).splitlines()
    assert rows[0].count("|") == rows[-1].count("|")
    assert (
        "| flux-dev 1024², 28 steps | compiled | 3.4 | 2.65 | 1.283 | 78% | ≤ 3.5 s | yes |" in rows
    )


def test_in_short_each_target_has_its_quickest_way() -> None:
    rows = targets.best(targets.lines([FLUX], targets.H200, 790)).splitlines()[2:]
    picture = "| flux-dev 1024², 28 steps | 4.8 |"
    assert rows == [
        f"{picture} 3.4 | compiled | 2.65 | ≤ 3.5 s | yes |",
        f"{picture} 1.9 | compiled, lossy: fp8+step_forecast | 2.65 | ≤ 2.4 s | yes |",
    ]
