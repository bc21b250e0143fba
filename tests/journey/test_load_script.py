"""The load script on the real server, in each of the four dialects."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import load
from tests.journey.conftest import Server

ANYWHERE = Path(__file__).parents[2] / "bench" / "mixes" / "anywhere.toml"
WATCHED = '[[request]]\nname = "watched"\nstream = true\nsteps = 20\n'
TWO = '[[request]]\nname = "two"\nn = 2\n'
MASKED = '[[request]]\nname = "masked"\ntask = "inpaint"\n'
WATCHED_EDIT = '[[request]]\nname = "watched edit"\ntask = "edit"\nstream = true\nsteps = 20\n'
BOTH = ["--count", "24", "--seconds", "0", "--warm-up", "1", "--clients", "2"]


def driven(toy: Server, place: Path, dialect: str, *kinds: str) -> dict[str, Any]:
    """The figures of a load; it fails if a kind of request does in its warm-up."""
    mixed = place / "mix.toml"
    mixed.write_text("\n".join(kinds))
    flags = ["--dialect", dialect, "--mix", str(mixed), "--out", str(place / "load")]
    load.main([toy.url, *flags, *BOTH])
    document = json.loads((place / "load.json").read_text())
    (figures,) = document["loads"]
    return figures | {"notes": document["notes"]}


@pytest.mark.parametrize(
    ("dialect", "kinds"),
    [
        ("aimo", (TWO, MASKED)),
        ("openai", (TWO, MASKED)),
        ("venice", (TWO,)),
        ("depicta", ()),
    ],
)
def test_every_dialect_is_spoken_and_understood(
    toy: Server, tmp_path: Path, dialect: str, kinds: tuple[str, ...]
) -> None:
    figures = driven(toy, tmp_path, dialect, ANYWHERE.read_text(), *kinds)
    assert figures["errors"] == {}
    assert (figures["answered"], figures["left"]) == (24, 0)
    assert len(figures["kinds"]) == 2 + len(kinds)
    twos = figures["kinds"].get("two", {"answered": 0})["answered"]
    assert figures["images"] == 24 + twos
    assert (twos > 0) == (TWO in kinds)
    assert 0 <= figures["queue"]["p50"] < figures["latency"]["p50"]
    assert 0 < figures["paint"]["p50"] < figures["latency"]["p50"]
    assert figures["first_preview"] == {}


@pytest.mark.parametrize("dialect", ["aimo", "openai"])
@pytest.mark.parametrize("kind", [WATCHED, WATCHED_EDIT])
def test_of_a_stream_the_first_preview_and_all_pictures_are_seen(
    toy: Server, tmp_path: Path, dialect: str, kind: str
) -> None:
    figures = driven(toy, tmp_path, dialect, kind + "n = 2\n")
    assert (figures["errors"], figures["images"]) == ({}, 48)
    assert 0 < figures["first_preview"]["p50"] < figures["latency"]["p50"]
    assert 0 < figures["paint"]["p50"] < figures["latency"]["p50"]


@pytest.mark.parametrize("dialect", ["venice", "depicta"])
def test_where_nothing_is_streamed_that_is_told_and_the_rest_measured(
    toy: Server, tmp_path: Path, dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = driven(toy, tmp_path, dialect, WATCHED)
    assert (figures["answered"], figures["first_preview"]) == (24, {})
    said = next(note for note in figures["notes"] if "left out" in note)
    assert "stream (of watched)" in said
    assert f"Note: {said}." in capsys.readouterr().out
