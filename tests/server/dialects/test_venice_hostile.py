"""Bad input for the Venice dialect: a 4xx in its own shape with the field named, never a 500."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.dialects.easel import B64, PNG, URL
from tests.server.dialects.test_aimo_hostile import WRONG_BODIES
from tests.server.dialects.test_venice import SHAPES
from tests.server.dialects.venice_stand import (
    BODIES,
    FORMS,
    Easel,
    ask,
    at_fault,
    send,
    told,
    warned,
)

NOT_FLAGS: list[Any] = ["true", 1, 0, "", [], {}]
NO_PROMPTS: list[Any] = [1, False, [], {}, "", "  \n", "a\0b", None]
NO_IMAGES: list[Any] = [
    1,
    "",
    [],
    {},
    True,
    None,
    "!",
    "data:,x",
    "data:image/png;base64,",
    "\u00e9",
]
EDITING: dict[str, list[Any]] = {
    "prompt": [*NO_PROMPTS, "x" * 32769],
    "modelId": [1, [], "", "x" * 201, "a\0b"],
    "aspect_ratio": [1, "", "16:10", "1 : 1", "AUTO", []],
    "output_format": ["", "gif", "PNG", 1],
    "quality": ["", "auto", "hd", 1, True],
    "safe_mode": NOT_FLAGS,
    "enhance_prompt": NOT_FLAGS,
    "disable_prompt_optimization_thinking": NOT_FLAGS,
}
WRONG: dict[str, dict[str, list[Any]]] = {
    "/image/edit": EDITING
    | {
        "image": [*NO_IMAGES, "http://example.test/a.png", "A" * 79_998 + "="],
        "model": [1, [], "", "x" * 201, "a\0b"],
        "resolution": ["", "8K", 2, "1024", ["1K"]],
        "anon_user_id": ["x" * 129, "a\nb", "a\n", "\u00e9", 1],
    },
    "/image/multi-edit": EDITING
    | {
        "resolution": ["", "x" * 11, 2],
        "images": [1, "", URL, {}, True, None, [], [B64] * 17],
        "images.0": [[""], [None], [{}], [[]], [1], ["!"], ["https://example.test/a.png"]],
        "images.1": [[URL, "?"], [B64, 5]],
    },
    "/image/generate": {
        "model": [1, True, [], {}, "", None, "x" * 201, "a\0b"],
        "prompt": [*NO_PROMPTS, "x" * 7501],
        "negative_prompt": [1, [], "a\0b", "x" * 7501],
        "width": [0, -5, 1281, "1024", 1.5, True, 10**30],
        "height": [0, "1024", {}, False, 1281],
        "aspect_ratio": [1, "", "auto", "16:10", "65:1"],
        "resolution": ["", "8K", 2],
        "quality": ["", "auto", 1],
        "cfg_scale": [0, -1, 20.1, "7", True, 10**300, 10**4000],
        "steps": [0, -1, 1001, "20", 1.5, True],
        "seed": [-1_000_000_000, 1_000_000_000, 0.5, "7", True, [0], 10**400],
        "variants": [0, 5, -1, 1.5, "1", True],
        "format": ["", "gif", "WEBP", 1],
        "return_binary": NOT_FLAGS,
        "style_preset": [1, [], "", "anime", "Anime ", "x" * 101, "nothing"],
        "style_references": [1, "x", {}, [{"image": B64}], [{"image": B64, "strength": 0.5}]],
        "style_references.0": [[1], ["x"]],
        "style_references.0.image": [[{}], [{"image": ""}], [{"image": 1}]],
        "style_references.0.strength": [[{"image": "a", "strength": s}] for s in (0, 1.1, "1")],
        "lora_strength": [-1, 101, 0.5, "3", True],
        "safe_mode": NOT_FLAGS,
        "hide_watermark": NOT_FLAGS,
        "embed_exif_metadata": NOT_FLAGS,
        "enable_web_search": NOT_FLAGS,
        "enhance_prompt": NOT_FLAGS,
        "disable_prompt_optimization_thinking": NOT_FLAGS,
        "anon_user_id": ["x" * 129, "\x7f", 1],
        "inpaint": [{}, True, False, "x", 0, {"strength": 1}],
    },
    "/images/generations": {
        "prompt": [*NO_PROMPTS, "x" * 1501],
        "model": [1, [], "", "x" * 201, "a\0b"],
        "n": [0, 2, 10, -1, 1.5, "1", True],
        "size": ["", "1x1", "1024X1024", 1024, [1, 2]],
        "response_format": ["", "png", 1],
        "output_format": ["", "gif", 1],
        "output_compression": [-1, 101, 0.5, "3", True],
        "quality": ["", "best", 1],
        "background": ["", "white", 1],
        "style": ["", "bold", 1],
        "moderation": ["", "high", False],
        "user": [1, {}, "x" * 257, "a\0b"],
    },
    "/image/upscale": {
        "image": [*NO_IMAGES, "http://example.test/a.png"],
        "scale": [1, 1.99, 4.01, 0, -2, "2", True, [2], 10**400],
        "creativity": ["much", [], True],
        "replication": ["x", {}],
    },
    "/image/background-remove": {
        "image": NO_IMAGES[:5] + NO_IMAGES[6:],
        "image_url": ["", 1, [], URL],
    },
}  # fmt: skip


def _cases() -> list[Any]:
    return [
        pytest.param(path, name, value, id=f"{path}-{name}-{i}")
        for path, fields in WRONG.items()
        for name, values in fields.items()
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(("path", "name", "value"), _cases())
def test_wrong_values_are_refused_by_name(path: str, name: str, value: Any):
    easel = Easel()
    answer = ask(path, easel, **{name.partition(".")[0]: value})
    at = "image" if name == "image_url" and value == URL else name  # both were sent
    assert at in at_fault(told(answer))
    assert not easel.drafts
    assert not easel.wishes
    if isinstance(value, str) and len(value) > 50:  # nothing long is echoed
        assert value not in answer.text


def test_every_field_has_wrong_values():
    for path, shape in SHAPES.items():
        free = {"enhance", "enhanceCreativity", "enhancePrompt"}
        assert shape.model_fields.keys() - free <= WRONG[path].keys(), path


def test_an_image_over_its_limit_in_json():
    text = base64.b64encode(PNG.ljust(60_001, b"x")).decode()
    told(ask("/image/edit", image=text), 413)


@pytest.mark.parametrize("path", ["/image/edit", "/image/generate"])
@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES.keys())
def test_wrong_bodies_are_refused(path: str, body: bytes):
    easel = Easel()
    told(send(path, easel, content=body, headers={"Content-Type": "application/json"}))
    assert not easel.drafts


def test_an_address_is_fetched_by_nobody_here():
    body = told(ask("/image/edit", image="http://169.254.169.254/latest"))
    assert at_fault(body) == ["image"]
    assert "not fetched by URL here" in body["issues"][0]["message"]


@pytest.mark.parametrize("key", ["query", "body", "path", "details", "_errors", ""])
def test_an_unknown_key_is_named_whatever_it_is(key: str):
    path = "/images/generations"
    body = told(send(path, json={**BODIES[path], key: None}))
    assert f"'{key}'" in body["issues"][0]["message"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(["1", "png", "auto", "1:1", URL, B64]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from(sorted(BODIES)))
def test_any_object_is_answered_or_refused(data: st.DataObject, whole: bool, path: str):
    names = st.sampled_from(sorted(SHAPES[path].model_fields)) | st.text(max_size=5)
    body = data.draw(st.dictionaries(names, json_values, max_size=8))
    _expect_decent(send(path, json={**BODIES[path], **body} if whole else body), path)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(sorted(FORMS)))
def test_any_form_is_answered_or_refused(data: st.DataObject, path: str):
    names = st.sampled_from(sorted(SHAPES[path].model_fields)) | st.text(min_size=1, max_size=5)
    values = st.text(max_size=20) | st.sampled_from(["1", "true", "2.5", B64]) | st.binary()
    said = data.draw(st.lists(st.tuples(names, values), max_size=6))
    parts: list[Any] = [
        (name, ("f", value) if isinstance(value, bytes) else (None, value)) for name, value in said
    ]
    _expect_decent(send(path, files=[*parts, ("image", ("a.png", PNG))]), path)


def _expect_decent(answer: Any, path: str) -> None:
    if answer.status_code == 200:
        kind = answer.headers["content-type"]
        assert kind in ("application/json", "image/png", "image/jpeg", "image/webp")
    elif answer.status_code == 503:
        assert path == "/image/background-remove"
    else:
        assert 400 <= answer.status_code < 500
        told(answer, answer.status_code)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_refused(body: bytes):
    for kind in ("application/json", "multipart/form-data; boundary=x"):
        told(send("/image/edit", content=body, headers={"Content-Type": kind}))


def test_what_is_unknown_is_named_as_it_was_sent():
    answer = ask("/image/upscale", **{"images": 1, "images[0]": 2})
    assert warned(answer).keys() == {"images", "images[0]", "scale"}
