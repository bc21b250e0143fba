"""Bad input for the OpenAI dialect: a 4xx in its own shape, the field named, and never a 500."""

import asyncio
import base64
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.dialects import openai_shapes
from tests.server.dialects.easel import PNG, STAND, URL
from tests.server.dialects.openai_easel import (
    APP,
    ASK,
    EDIT,
    FILES,
    Easel,
    edit,
    generate,
    send,
    told,
)
from tests.server.dialects.test_aimo_hostile import WRONG_BODIES

WRONG_VALUES: dict[str, list[Any]] = {
    "model": [1, True, [], {}, "x" * 201, "a\0b"],
    "prompt": [1, False, [], {}, "", "   \n\t", "a\0b", None],
    "n": [0, -1, 11, 1.5, "1", True, [1], 10**30, -(10**4000)],
    "size": [
        *(1024, True, "1024", "1024x", "x1024", "1024*1024", "1024 x 1024", " auto", "AUTO"),
        *("63x64", "64x63", "0x0", "8193x64", "64x8193", "10000x64", "064x64", "1e3x64", "-64x64"),
        *("64x64x64", "64x64\n", "１２８x128", "9" * 5000, ["auto"]),
    ],
    "quality": ["", "ultra", "LOW", 1, True],
    "response_format": ["", "file", "URL", 1],
    "output_format": ["", "gif", "svg", "PNG", 1],
    "output_compression": [-1, 101, 50.5, "50", True],
    "background": ["", "white", 1, True],
    "moderation": ["", "high", False],
    "stream": ["true", 1, 0, [], "yes"],
    "partial_images": [-1, 4, 0.5, "1", True],
    "user": [1, {}, "x" * 257, "a\0b"],
    "safety_identifier": [1, "x" * 257],
    "negative_prompt": [1, [], "a\0b"],
    "seed": [-2, 2**31, 0.5, "7", True, [0], 10**400],
    "steps": [0, 1001, -1, "20", 1.5, True],
    "num_inference_steps": [0, 1001],
    "guidance": [-0.1, 50.1, "7", True, [7], 10**300, 10**4000],
    "guidance_scale": [-1, 51],
    "true_cfg_scale": [-1, 51],
    "style_preset": [1, [], "x" * 101],
    "lora_strength": [-1, 101, 0.5, "3", True],
    "aspect_ratio": [1, "", "16", "16:", "0:1", "65:1", "1.5:1", "9" * 4000],
    "resolution": ["", "8K", 2],
    "strict": ["true", 1],
}
WRONG_IN_GENERATIONS: dict[str, list[Any]] = {"style": [1, {}, "x" * 101, "", "moody"]}
WRONG_IN_EDITS: dict[str, list[Any]] = {
    "input_fidelity": ["", "max", 1],
    "strength": [0, -1, 1.01, "1", True],
    "images": [1, "", URL, {}, {"image_url": URL}, True, [{"image_url": URL}] * 17],
    "images[0]": [[], [None], [[]], [1], [URL]],
    "images[0].image_url": [
        *([{}], [{"image_url": None}], [{"image_url": ""}], [{"image_url": 5}]),
        *([{"image_url": "!"}], [{"image_url": "file:///etc/passwd"}], [{"image_url": "data:,x"}]),
        [{"image_url": "data:image/png;base64,"}],
    ],
    "images[0].file_id": [[{"file_id": "file-1"}], [{"file_id": "file-1", "image_url": URL}]],
    "images[1].image_url": [[{"image_url": URL}, {"image_url": "?"}]],
    "mask": [1, [], URL],
    "mask.image_url": [{}, {"image_url": ""}, {"image_url": "?"}],
    "mask.file_id": [{"file_id": "file-1"}],
}


def _cases() -> list[Any]:
    edits = WRONG_VALUES | WRONG_IN_EDITS
    return [
        pytest.param(path, {**whole, name.partition("[")[0].partition(".")[0]: value}, name)
        for path, whole, wrong in (
            ("generations", ASK, WRONG_VALUES | WRONG_IN_GENERATIONS),
            ("edits", EDIT, edits),
        )
        for name, values in wrong.items()
        for value in values
    ]


@pytest.mark.parametrize(("path", "body", "name"), _cases())
def test_wrong_values_are_refused_by_name(path: str, body: dict[str, Any], name: str):
    easel = Easel()
    error = told(
        send(f"/images/{path}", easel, json=body), 400, "invalid_request", "invalid_image_file"
    )
    assert error["param"] == name
    assert error["message"].startswith(f"{name}: ")
    assert len(error["message"]) <= 500
    assert not easel.drafts
    for value in body.values():  # nothing long is echoed
        assert not (isinstance(value, str) and len(value) > 50 and value in error["message"])


WRONG_TEXTS = {
    "n": ["0", "11", "1.5", "one", "null", "[1]"],
    "size": ["1024", "9x9"],
    "quality": ["best"],
    "output_compression": ["101", "NaN"],
    "stream": ["maybe", "2"],
    "partial_images": ["4"],
    "guidance": ["51", "nan", "inf", "-inf"],
    "strength": ["0", "2"],
    "seed": ["-2", "2147483648", "1e1000"],
    "prompt": [" ", "a\0b"],
    "mask": ["not a file"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in WRONG_TEXTS.items() for text in texts]
)
def test_wrong_texts_in_forms_are_refused_by_name(name: str, text: str):
    easel = Easel()
    error = told(edit({**ASK, name: text}, easel))
    assert error["param"] == name
    assert error["message"].startswith(f"{name}: ")
    assert not easel.drafts


@pytest.mark.parametrize("to", ["edits", "variations"])
@pytest.mark.parametrize(
    ("files", "says", "codes"),
    [
        ([("mask", PNG)], "image: is required", ()),
        ([("other", PNG)], "image: is required", ()),
        ([("image", PNG)] * 17, "image: at most ", ()),
        ([("image", b"")], "image: empty", ("invalid_image_file",)),
        ([("image", b"GIF89a")], "image[0]: not a PNG", ("invalid_image_file",)),
    ],
)
def test_wrong_files(to: str, files: Any, says: str, codes: tuple[str, ...]):
    assert told(edit(ASK, files=files, to=to), 400, *codes)["message"].startswith(says)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([*FILES, ("image[]", b"")], "image[1]: empty"),
        ([*FILES, ("mask", b"")], "mask: empty"),
        ([*FILES, ("mask", PNG), ("mask", PNG)], "mask: one file"),
    ],
)
def test_wrong_files_in_edits(files: Any, says: str):
    error = told(edit(ASK, files=files), 400, "invalid_request", "invalid_image_file")
    assert error["message"].startswith(says)


@pytest.mark.parametrize(
    ("to", "name", "expected"),
    [
        ("edits", "control_image", "image[] and mask"),
        ("edits", "image[1]", "image[] and mask"),
        ("edits", "mask[0]", "image[] and mask"),
        ("edits", "prompt", "image[] and mask"),
        ("variations", "mask", "image"),
        ("variations", "x" * 500, "image"),
    ],
)
def test_a_file_that_nobody_looks_at_is_refused_by_name(to: str, name: str, expected: str):
    easel = Easel()
    error = told(edit(ASK, easel, files=[*FILES, (name, PNG)], to=to))
    assert error["message"] == f"{name[:50]}: no file is expected here, only {expected}"
    assert error["param"] == name[:50]
    assert not easel.drafts


def test_a_variation_is_of_one_image():
    assert told(edit({}, files=FILES * 2, to="variations"))["message"].startswith(
        "image: at most 1"
    )


@pytest.mark.parametrize("size", [60_001, 100_000])
def test_an_image_over_its_limit(size: int):
    data = PNG.ljust(size, b"x")
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    for answer in (
        edit(ASK, files=[("image", data)]),
        send("/images/edits", json={**ASK, "images": [{"image_url": url}]}),
    ):
        assert "60000 bytes" in told(answer, 413, "payload_too_large")["message"]


def test_a_form_over_the_limit():
    told(edit(ASK, files=[("image", PNG.ljust(200_001))]), 413, "payload_too_large")


HERE = {name: body for name, body in WRONG_BODIES.items() if name != "no model"}


@pytest.mark.parametrize("path", ["generations", "edits"])
@pytest.mark.parametrize("body", HERE.values(), ids=HERE.keys())
def test_wrong_bodies_are_refused(path: str, body: bytes):
    easel = Easel()
    headers = {"Content-Type": "application/json"}
    told(send(f"/images/{path}", easel, content=body, headers=headers))
    assert not easel.drafts


WRONG_FORMS: dict[str, tuple[str, bytes]] = {
    "no boundary": ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
    "empty": ("multipart/form-data; boundary=x", b""),
    "no end": ("multipart/form-data; boundary=x", b"--x\r\n"),
    "nothing in it": ("multipart/form-data; boundary=x", b"--x--\r\n"),
    "a part without a name": ("multipart/form-data; boundary=x", b"--x\r\n\r\na\r\n--x--\r\n"),
    "JSON": ("multipart/form-data; boundary=x", b"{}"),
}


@pytest.mark.parametrize("to", ["edits", "variations"])
@pytest.mark.parametrize(("kind", "body"), WRONG_FORMS.values(), ids=WRONG_FORMS.keys())
def test_wrong_forms_are_refused(to: str, kind: str, body: bytes):
    told(send(f"/images/{to}", content=body, headers={"Content-Type": kind}))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
@pytest.mark.parametrize("path", ["generations", "edits"])
def test_other_content_types(path: str, kind: str):
    answer = send(f"/images/{path}", content=b"{}", headers={"Content-Type": kind})
    told(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("streamed", [False, True])
def test_http_1_0_has_no_streams(streamed: bool):
    async def old(scope: Any, receive: Any, send: Any) -> None:
        await APP({**scope, "http_version": "1.0"}, receive, send)

    async def talk() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=old)) as client:
            return await client.post(
                "http://test/images/generations", json={**ASK, "stream": streamed}
            )

    STAND.easel = Easel()
    answer = asyncio.run(talk())
    if streamed:
        assert told(answer)["param"] == "stream"
    else:
        assert answer.status_code == 200


def test_generations_are_no_form():
    told(edit(ASK, to="generations"), 415, "unsupported_media_type")


def test_variations_are_no_json():
    told(send("/images/variations", json=EDIT), 415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(method: str):
    told(send("/images/generations", method=method), 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/", "/images", "/images/edits/", "/chat/completions", "/é"])
def test_other_paths(path: str):
    told(send(path, method="GET"), 404, "not_found")


def test_unknown_models():
    error = told(generate({**ASK, "model": "gpt-5-vision"}), 404, "model_not_found")
    assert error["param"] == "model"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(["1", "png", "url", "1:1", "auto", URL]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
names = st.sampled_from(sorted({*openai_shapes.EditJson.model_fields, "style"}))
bodies = st.dictionaries(names | st.text(max_size=5), json_values, max_size=8)


@settings(max_examples=100, deadline=None)
@given(bodies, st.booleans(), st.sampled_from(["generations", "edits"]))
def test_any_object_is_answered_or_refused(body: dict[str, Any], whole: bool, path: str):
    answered_or_refused(send(f"/images/{path}", json={**EDIT, **body} if whole else body))


# What a client can send as the text of a form: no lone surrogates.
form_texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["1", "auto"])
form_names = names | st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(form_names, form_texts, max_size=8), st.sampled_from(["edits", "variations"])
)
def test_any_form_is_answered_or_refused(body: dict[str, str], to: str):
    answered_or_refused(edit({**ASK, **body}, to=to))


def answered_or_refused(answer: Any) -> None:
    if answer.status_code == 200:
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in ("application/json", "text/event-stream")
    else:
        assert 400 <= answer.status_code < 500
        told(answer, answer.status_code, answer.json()["error"]["code"])


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=60), st.sampled_from(["application/json", "multipart/form-data; boundary=x"])
)
def test_any_bytes_are_refused(body: bytes, kind: str):
    told(send("/images/edits", content=body, headers={"Content-Type": kind}))
