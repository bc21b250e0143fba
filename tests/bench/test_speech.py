"""What the load script says in each dialect, and that it drops nothing in silence."""

import json
from typing import Any

import pytest

from bench import mix, speech, words
from bench.mix import Kind, Planned, Task

DIALECTS = list(speech.DIALECTS)
TASKS: list[Task] = ["generate", "edit", "inpaint"]
WISHES: dict[str, dict[str, Any]] = {
    "n": {"n": 2},
    "size": {"width": 1024, "height": 1024},
    "steps": {"steps": 7},
    "guidance": {"guidance": 3.0},
    "strength": {"strength": 0.5},
    "stream": {"stream": True},
}
PAIRS = [(task, name) for task in TASKS for name in WISHES]
PAIRS.remove(("generate", "strength"))  # there is no picture to repaint


def ask(dialect: str, kind: Kind, seed: int = 5) -> speech.Ask:
    return speech.DIALECTS[dialect].ask(Planned(0, kind, seed, False))


def body(dialect: str, **told: Any) -> dict[str, Any]:
    said = ask(dialect, Kind(name="x", **told))
    return said.json or said.data or {}


def told_of(dialect: str, kind: Kind, name: str) -> bool:
    """Whether a field is refused, or named as one that was left out or may be ignored."""
    mixed = mix.plain([kind])
    refused = any(each.startswith(f"x: {name}: ") for each in words.faults(dialect, mixed))
    return refused or any(f" {name} (of x)" in each for each in words.notes(dialect, mixed))


def test_every_dialect_has_its_words() -> None:
    assert words.LANGUAGES.keys() == speech.DIALECTS.keys()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("task", TASKS)
def test_every_dialect_can_be_asked_for_every_task(dialect: str, task: Task) -> None:
    said = ask(dialect, Kind(name="x", task=task))
    assert said.path.startswith("/")
    assert (said.json is None) != (said.data is None)
    json.dumps(said.json)
    assert "a red circle on a blue background 5" in str(said.json or said.data)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_what_is_asked_for_is_sent_or_told_of(dialect: str, task: Task, name: str) -> None:
    plain, wish = Kind(name="x", task=task), Kind(name="x", task=task, **WISHES[name])
    sent, known = ask(dialect, plain) != ask(dialect, wish), words.LANGUAGES[dialect].of(wish)
    if (name, dialect) == ("size", "venice") and task != "generate":
        assert sent  # the picture to start from is as large
    else:
        assert sent == (name in known.known | known.beyond)
    assert told_of(dialect, wish, name) == (name not in known.known)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("task", TASKS)
def test_a_seed_and_a_mask_are_sent_or_told_of(dialect: str, task: Task) -> None:
    kind = Kind(name="x", task=task, same_prompt=True)
    if ask(dialect, kind, 1) == ask(dialect, kind, 2):
        assert told_of(dialect, kind, "seed")
    if task == "inpaint" and ask(dialect, kind) == ask(
        dialect, kind.model_copy(update={"task": "edit"})
    ):
        assert told_of(dialect, kind, "mask")


def test_each_dialect_says_it_in_its_words() -> None:
    whole = {"steps": 7, "guidance": 3.0, "width": 1024, "height": 1024}
    aimo = body("aimo", n=2, stream=True, **whole)
    assert (aimo["n"], aimo["width"], aimo["steps"], aimo["guide_scale"]) == (2, "1024", 7, 3.0)
    assert (aimo["stream"], aimo["output_type"]) == (True, "data_url")
    venice = body("venice", n=2, **whole)
    assert (venice["variants"], venice["return_binary"], venice["width"]) == (2, False, 1024)
    assert (venice["steps"], venice["cfg_scale"]) == (7, 3.0)
    assert 0 <= body("venice")["seed"] < 10**9
    openai = body("openai", task="inpaint", stream=True, strength=0.5, **whole)
    assert (openai["size"], openai["stream"], openai["strength"]) == ("1024x1024", "true", "0.5")
    depicta = body("depicta", task="edit", **whole)
    assert (depicta["aspect_ratio"], depicta["image_size"], depicta["steps"]) == ("1:1", "1K", "7")
    assert "image_size" not in body("depicta")


@pytest.mark.parametrize(
    ("dialect", "told", "fault"),
    [
        ("venice", {"n": 5}, "x: n: 1 to 4 can be asked for, and not 5"),
        ("venice", {"width": 1536}, "x: width: 1 to 1280"),
        ("venice", {"guidance": 0.0}, "x: guidance: "),
        ("venice", {"task": "inpaint"}, "x: mask: there is no word for it"),
        ("venice", {"task": "edit", "steps": 3}, "x: steps: there is no word for it"),
        ("venice", {"task": "edit", "strength": 0.5}, "x: strength: there is no word for it"),
        ("aimo", {"task": "edit", "n": 7}, "x: n: 1 to 6"),
        ("depicta", {"n": 2}, "x: n: there is no word for it"),
        ("depicta", {"task": "inpaint"}, "x: mask: there is no word for it"),
        ("depicta", {"width": 512, "height": 512}, "x: size: there is no word for 512x512"),
        ("depicta", {"width": 3000, "height": 350}, "x: size: there is no word for 3000x350"),
    ],
)
def test_what_would_be_another_load_is_refused(
    dialect: str, told: dict[str, Any], fault: str
) -> None:
    (said,) = words.faults(dialect, mix.plain([Kind(name="x", **told)]))
    assert said.startswith(fault)


def test_what_is_as_much_work_is_told_in_a_line_each() -> None:
    kinds = [
        Kind(name="wide", width=1344, height=768, stream=True),
        Kind(name="usual", steps=4),
    ]
    assert words.notes("depicta", mix.plain(kinds)) == [
        "depicta has no word for what was left out: stream (of wide)",
        "depicta documents no word for what was sent all the same (a server may ignore it): "
        "seed (of all); steps (of usual)",
        "depicta says sizes in words of its own: 1344x768 as 1K in 16:9 (of wide)",
        "depicta leaves to the server: size (of usual)",
    ]
    assert words.notes("aimo", mix.plain(kinds)) == []
    assert words.faults("depicta", mix.plain(kinds)) == []


def test_strength_is_for_what_starts_from_a_picture() -> None:
    with pytest.raises(ValueError, match="no picture to repaint"):
        Kind(name="x", strength=0.5)


def test_what_venice_says_of_its_time_is_read_where_no_header_does() -> None:
    timing = {"inferenceQueueTime": 20.0, "inferenceDuration": 1500, "total": 1600}
    said = json.dumps({"images": ["a", "b"], "timing": timing}).encode()
    read = speech.DIALECTS["venice"].read
    assert read("application/json", said) == speech.Answer(2, {"queue": 0.02, "paint": 1.5})
    assert read("image/webp", b"RIFF") == speech.Answer(1)


def test_of_depicta_every_link_is_a_picture() -> None:
    read = speech.DIALECTS["depicta"].read
    links = {"image_url": "https://a.test/1", "image_urls": ["https://a.test/1", "b"]}
    assert read("application/json", json.dumps(links).encode()).images == 2
    del links["image_urls"]
    assert read("application/json", json.dumps(links).encode()).images == 1
