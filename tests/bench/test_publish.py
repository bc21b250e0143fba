"""The tables of the documents are made of the figures that were kept."""

import json
from pathlib import Path

import pytest

from bench import publish, report, tally

GPU_TABLES = ("targets", "engine", "reached")
FACTS = {"cores": 2, "processor": "abacus", "date": "2026-11-21", "load_before": 0.1}
SERVING = {
    "machine": FACTS,
    "picture": {
        "1024 px, PNG": {
            "steps": 12,
            "served_seconds": 0.251,
            "overhead_ms": {"p50": 12.4, "p95": 20.0},
        }
    },
    "saturation": {"canvases": 4, "served_to_bare": 0.961, "served_to_tuned": 0.932},
    "stalls": {
        "clients": 8,
        "px": 1024,
        "loaded": {"late_ms": {"p99": 4.04}, "own_late_ms": {"p99": 1.06}},
    },
    "memory": {"mb": {"server": 123.4, "worker": 469.0}},
}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pages and a folder of figures."""
    for name in ("README", "PAGE"):
        page = tmp_path / f"{name}.md"
        page.write_text("a\n<!-- bench: serving-cpu -->\nold\n<!-- end -->\nz\n")
        monkeypatch.setattr(publish, name, page)
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    return tmp_path


def test_tables_stand_where_the_pages_have_room_for_them(house: Path) -> None:
    publish.kept("serving", "CPU").write_text(json.dumps(SERVING))
    publish.publish()
    for name in ("README.md", "PAGE.md"):
        text = (house / name).read_text()
        assert text.startswith("a\n<!-- bench: serving-cpu -->\n2 cores of abacus")
        assert text.endswith("\n<!-- end -->\nz\n")
        assert "0.25 s, of which serving is 12 ms (p95 20 ms) |" in text
        assert "| images per second of a full server, to bare batches of 4 | 0.96 |" in text
        assert "| the same, with networks tuned in both | 0.93 |" in text
        assert "| p99 4.0 ms late; 1.1 ms but for waiting for a processor |" in text
        assert "old" not in text


LOAD = {
    "machine": FACTS | {"device": "CPU"},
    "dialect": "aimo",
    "mix": {
        "request": [
            {"name": "short", "weight": 3, "steps": 4, "width": 128, "height": 96},
            {"name": "two", "n": 2, "task": "edit", "stream": True},
        ]
    },
    "notes": ["aimo has no word for what was left out: x (of two)"],
    "loads": [{"shape": "0.5/s", "rate": 0.5, **tally.summary([])}],
}


def test_under_a_load_stand_what_was_asked_for_and_what_could_not_be(house: Path) -> None:
    publish.kept("load", "CPU").write_text(json.dumps(LOAD))
    (house / "PAGE.md").write_text("<!-- bench: load-cpu -->\n<!-- end -->\n")
    publish.publish()
    assert (house / "PAGE.md").read_text().splitlines() == [
        "<!-- bench: load-cpu -->",
        "2 cores of abacus, CPU, 2026-11-21; load of the machine before: 0.1.",
        "",
        "aimo; 3 × short (4 steps, 128x96), 1 × two (n = 2, edit, streamed)",
        "",
        *report.table(LOAD["loads"]).splitlines(),
        "",
        "Note: aimo has no word for what was left out: x (of two).",
        "<!-- end -->",
    ]


def test_what_was_never_kept_leaves_a_page_as_it_is(house: Path) -> None:
    before = (house / "README.md").read_text()
    publish.publish()
    assert (house / "README.md").read_text() == before


def test_the_figures_of_a_gpu_are_kept_under_its_name(house: Path) -> None:
    assert publish.kept("engine", "NVIDIA H200").name == "engine-nvidia-h200.json"
    assert publish.kept("engine", "CPU, 1 thread").name == "engine-cpu.json"


def test_the_plans_of_one_gpu_share_a_place(house: Path) -> None:
    line = {"picture": "a", "way": "b", "seconds": 1.0, "target": "≤ 2 s", "met": "yes"}
    told = {"machine": FACTS | {"device": "NVIDIA H200"}, "failures": ["an owl"]}
    for plan, lines in ((1, [line]), (2, [line | {"target": None}])):
        path = publish.kept("engine", "NVIDIA H200", plan)
        path.write_text(json.dumps(told | {"table": f"figures {plan}", "targets": lines}))
    for name in ("README", "PAGE"):
        places = "\n".join(f"<!-- bench: {n}-nvidia-h200 -->\n<!-- end -->" for n in GPU_TABLES)
        (house / f"{name}.md").write_text(places)
    publish.publish()
    text = (house / "README.md").read_text()
    assert text.index("figures 1") < text.index("figures 2")
    assert "| a | b | 1.0 | – | – | – | ≤ 2 s | yes |" in text
    assert text.count("- Not passed: an owl") == 4


def test_the_readme_says_what_a_picture_takes(house: Path) -> None:
    served = [{"canvases": n, "bare_seconds": 3.0 * n, "served_seconds": 2.0 * n} for n in (1, 8)]
    row = {"model": "owl", "side": 64, "steps": 4, "picture_seconds": 2.5, "bare_seconds": 3.5}
    told = {"machine": FACTS | {"device": "CPU"}, "table": "all"}
    told["models"] = [row | {"served": served}, row | {"as_it_comes_seconds": 4.5}, {"model": "x"}]
    publish.kept("engine", "CPU").write_text(json.dumps(told))
    (house / "README.md").write_text("<!-- bench: painting-cpu -->\n<!-- end -->\n")
    publish.publish()
    head, _, *rows = (house / "README.md").read_text().splitlines()[3:-1]
    assert head.endswith("| at once | plain, s each | served, s each |")
    assert rows == [
        "| owl 64², 4 steps | 3.5 | 2.5 | 8 | 3.0 | 2.0 |",
        "| owl 64², 4 steps | 4.5 | 2.5 | – | – | – |",
    ]


def test_figures_that_came_from_elsewhere_are_kept(house: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "serving-cpu.json").write_text(json.dumps(SERVING))
    publish.main([str(away / "serving-cpu.json")])
    assert json.loads((house / "serving-cpu.json").read_text()) == SERVING
    assert "images per second" in (house / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("serving-gone.json", None, "No such file"),
        ("owls.json", "{}", "KIND one of serving, peers, load, engine"),
        ("engine-cpu.json", "{}", "they name no machine"),
        ("engine-cpu.json", '{"machine": {}}', "KeyError: 'table'"),
        ("engine-cpu.json", "{", "Expecting property name"),
    ],
)
def test_what_is_no_file_of_figures_is_not_kept(
    house: Path, tmp_path: Path, capsys, name: str, text: str | None, why: str
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    if text is not None:
        (away / name).write_text(text)
    with pytest.raises(SystemExit):
        publish.main([str(away / name)])
    assert why in capsys.readouterr().err
    assert not (house / name).exists()


def test_the_documents_have_room_for_a_gpu_s() -> None:
    for name in GPU_TABLES[:2]:
        assert f"<!-- bench: {name}-nvidia-h200 -->\n" in publish.PAGE.read_text()
    assert "<!-- bench: reached-nvidia-h200 -->\n" in publish.README.read_text()


def test_the_documents_have_room_for_every_table_of_a_cpu() -> None:
    pages = publish.README.read_text() + publish.PAGE.read_text()
    for kind in (*publish.KINDS, "painting"):
        assert f"<!-- bench: {kind}-cpu -->\n" in pages


@pytest.mark.parametrize("kind", ["peers", "load"])
def test_a_chart_stands_below_its_table_and_is_kept_with_it(kind: str) -> None:
    _, _, below = publish.PAGE.read_text().partition(f"<!-- bench: {kind}-cpu -->")
    assert f"](../bench/results/{kind}-cpu.png)\n" in below.partition("\n#")[0]
    kept = publish.kept(kind, "CPU")
    assert kept.exists() == kept.with_suffix(".png").exists()
