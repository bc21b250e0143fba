"""Bad input for the AIMO dialect: a 4xx in its own shape with the field named, and never a 500."""

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.dialects import aimo_shapes
from tests.server.dialects.easel import (
    ASK,
    B64,
    EDIT,
    PNG,
    URL,
    Easel,
    edit,
    generate,
    send,
    told,
    understood,
)

WRONG_VALUES: dict[str, list[Any]] = {
    "model": [1, True, [], {}, "", "x" * 201, "a\0b"],
    "prompt": [1, False, [], {}, "", "   \n\t", "a\0b"],
    "negative_prompt": [1, [], "a\0b"],
    "n": [0, -1, 11, 1.5, "1", True, [1], 10**30, -(10**4000)],
    "width": [0, -5, "0", "-1", "abc", "", "1e3", " 512", "１２８", "9" * 5000, 1.5, True, 10**9],
    "height": [0, "512.0", {}, False, 8193],
    "aspect_ratio": [1, "", "16", "16:", "0:1", "65:1", "-1:1", "1.5:1", "1:1:1", "9" * 4000],
    "resolution": ["", "8K", 2, "2 K", ["1K"]],
    "seed": [-2, 2**31, 0.5, "7", True, [0], 10**400],
    "steps": [0, 1001, -1, "20", 1.5, True],
    "guide_scale": [-0.1, 50.1, "7", True, [7], 10**300, 10**4000],
    "quality": ["", "ultra", 1, True],
    "style": [1, {}, "x" * 1001],
    "style_preset": [1, [], "x" * 101],
    "output_format": ["", "gif", "PNG", 1],
    "output_type": ["", "url", "b64_json", 0],
    "stream": ["true", 1, 0, [], "yes"],
    "user": [1, {}, "x" * 257, "a\0b"],
    "metadata": [1, "x", [], {"a": "x" * 4096}, {"a": json.loads("[" * 32 + "]" * 32)}],
    "lora_strength": [-1, 101, 0.5, "3", True],
    **{
        flag: ["true", 1, 0, "", [], {}]
        for flag in (
            "embed_exif_metadata", "hide_watermark", "watermark", "safe_mode",
            "prompt_extend", "enable_web_search", "strict",
        )
    },
}  # fmt: skip
WRONG_IN_EDITS: dict[str, list[Any]] = {
    "n": [7],
    "strength": [0, -1, 1.01, "1", True],
    "images": [1, "", URL, {}, {"b64": URL}, True],
    "images[0]": [[], [None], [{}], [[]], [1], [{"b64": None}], [{"b64": B64, "url": URL}]],
    "images[0].b64": [
        [""], [{"b64": ""}], ["!"], [{"b64": "QQ=="[:3]}], [{"b64": 1}], [{"b64": [URL]}],
        ["data:,x"], ["data:image/png;base64,"], ["\u00e9"], ["A" * 79_998 + "="],
    ],
    "images[0].url": [
        ["https://example.test/a.png"], [{"url": "http://example.test"}], [{"url": "file:///x"}],
        [{"url": ""}], [{"url": 5}], [{"url": "data:image/png,x"}],
    ],
    "images[1].b64": [[URL, "?"]],
    "images[2]": [[URL, URL, {}]],
    "mask": [1, [], {}, {"b64": None}, {"b64": B64, "url": URL}],
    "mask.b64": ["?", {"b64": ""}, {"b64": 3}],
    "mask.url": ["https://example.test/m.png"],
}  # fmt: skip


def _cases() -> list[Any]:
    cases = [
        pytest.param("/image/generate", {**ASK, name: value}, name, id=f"{name}-{i}")
        for name, values in WRONG_VALUES.items()
        for i, value in enumerate(values)
    ]
    return cases + [
        pytest.param(
            "/image/edit", {**EDIT, re.split(r"[\[.]", name)[0]: value}, name, id=f"{name}-edit-{i}"
        )
        for name, values in WRONG_IN_EDITS.items()
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(("path", "body", "names"), _cases())
def test_wrong_values_are_refused_by_name(path: str, body: dict[str, Any], names: str):
    easel = Easel()
    message = told(send(path, easel, json=body), 400, "invalid_request", "invalid_image")
    assert message.startswith(f"{names}: ")
    assert len(message) <= 500
    assert not easel.drafts
    for value in body.values():  # nothing long is echoed
        assert not (isinstance(value, str) and len(value) > 50 and value in message)


WRONG_BODIES: dict[str, bytes] = {
    "empty": b"",
    "space": b"   ",
    "a word": b"hello",
    "half": b'{"model": "sketch", "prompt": "a',
    "single quotes": b"{'model': 'sketch'}",
    "trailing comma": b'{"model": "sketch",}',
    "trailing text": b'{"model": "sketch", "prompt": "x"} x',
    "two objects": b"{}{}",
    "comments": b'{"model": "sketch" /* x */}',
    "NaN": b'{"model": "sketch", "prompt": "x", "guide_scale": NaN}',
    "Infinity": b'{"model": "sketch", "prompt": "x", "guide_scale": Infinity}',
    "-Infinity": b'{"model": "sketch", "prompt": "x", "guide_scale": -Infinity}',
    "huge float": b'{"model": "sketch", "prompt": "x", "guide_scale": 1e999}',
    "octal": b'{"model": "sketch", "prompt": "x", "seed": 017}',
    "hex": b'{"model": "sketch", "prompt": "x", "seed": 0x1f}',
    "5000 digits": b'{"model": "sketch", "prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    "unknown 5000 digits": b'{"model": "sketch", "prompt": "x", "zzz": ' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"model": "sketch", "prompt": "\\ud83c circle"}',
    "low surrogate": b'{"model": "sketch", "prompt": "\\udfa8 circle"}',
    "surrogate key": b'{"model": "sketch", "prompt": "x", "\\ud800 key": 1}',
    "CESU-8": b'{"model": "sketch", "prompt": "\xed\xa0\xbc\xed\xbe\xa8"}',
    "Latin-1": b'{"model": "sketch", "prompt": "\xe4"}',
    "overlong": b'{"model": "sketch", "prompt": "\xc0\xaf"}',
    "UTF-16": '{"model": "sketch", "prompt": "x"}'.encode("utf-16"),
    "UTF-32": '{"model": "sketch", "prompt": "x"}'.encode("utf-32"),
    "BOM": b'\xef\xbb\xbf{"model": "sketch", "prompt": "x"}',
    "control character": b'{"model": "sketch", "prompt": "a\nb"}',
    "NUL byte": b'{"model": "sketch", "prompt": "a\x00b"}',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 30_000,
    "deep and closed": b'{"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "deep metadata": b'{"model":"sketch","prompt":"x","metadata":' + b'{"a":' * 99 + b"}" * 100,
    "array": b"[]",
    "string": b'"sketch"',
    "number": b"7",
    "null": b"null",
    "true": b"true",
    "object in array": b'[{"model": "sketch", "prompt": "x"}]',
    "nothing": b"{}",
    "nulls": b'{"model": null, "prompt": null}',
    "no model": b'{"prompt": "x"}',
    "no prompt": b'{"model": "sketch"}',
    "empty key": b'{"": 1}',
    "duplicate key": b'{"model": "sketch", "prompt": "x", "n": 1, "n": 99}',
    "duplicate prompt": b'{"model": "sketch", "prompt": "x", "prompt": ""}',
    "a form": b"model=sketch&prompt=x",
    "XML": b"<model>sketch</model>",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsketch\r\n--x--\r\n',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "many items": b'{"model": "sketch", "images": [' + b"0," * 90_000 + b"0]}",
    "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(15_000)) + b"}",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/image/generate", "/image/edit"])
@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES.keys())
def test_wrong_bodies_are_refused(path: str, body: bytes):
    easel = Easel()
    headers = {"Content-Type": "application/json"}
    message = told(send(path, easel, content=body, headers=headers))
    assert not easel.drafts
    assert len(message) <= 500


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("many items", "the body has too many values"),
        ("many keys", "the body has too many values"),
        ("lone surrogate", 'near "prompt": a string holds half of a surrogate pair'),
        ("-Infinity", 'near "guide_scale": NaN and Infinity are not JSON'),
        ("Latin-1", 'near "prompt": a string is not UTF-8'),
    ],
)
def test_wrong_bodies_are_explained(name: str, says: str):
    assert says in told(send("/image/edit", content=WRONG_BODIES[name]))


def test_minus_zero_is_zero():
    body = b'{"model": "sketch", "prompt": "x", "seed": -0, "guide_scale": -0.0}'
    easel = Easel()
    assert send("/image/generate", easel, content=body).status_code == 200
    assert easel.drafts[0].seed == 0
    assert str(easel.drafts[0].guidance) in ("0.0", "-0.0")


def test_bytes_that_are_no_image():
    image = base64.b64encode(b"GIF89a").decode()
    message = told(edit({**EDIT, "images": [URL, image]}), 400, "invalid_image")
    assert message.startswith("images[1]: ")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit(declared: bool):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b" " * 1000

    content = b" " * 300_000 if declared else pieces()
    headers = {"Content-Type": "application/json"}
    answer = send("/image/edit", content=content, headers=headers)
    assert "200000 bytes" in told(answer, 413, "payload_too_large")


@pytest.mark.parametrize("size", [60_001, 100_000])
def test_an_image_over_its_limit(size: int):
    text = base64.b64encode(PNG.ljust(size, b"x")).decode()
    message = told(edit({**EDIT, "images": [text]}), 413, "payload_too_large")
    assert message == "images[0].b64: larger than 60000 bytes"


def test_too_many_images():
    assert told(edit({**EDIT, "images": [URL] * 17})).startswith("images: ")
    assert understood({**EDIT, "images": [URL] * 16}).images == (PNG,) * 16


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x"])
def test_other_content_types(kind: str):
    answer = send("/image/edit", content=json.dumps(EDIT), headers={"Content-Type": kind})
    told(answer, 415, "unsupported_media_type")


def test_gzip_is_refused():
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    told(send("/image/edit", content=b"\x1f\x8b", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize("other", [{"n": 2}, {"stream": True}])
def test_a_file_is_one_picture_and_no_stream(other: dict[str, Any]):
    assert told(generate({**ASK, "output_type": "file", **other})).startswith("output_type: ")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(method: str):
    told(send("/image/generate", method=method), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/", "/image", "/image/generate/", "/image/upscale", "/%00", "/é"]
)
def test_other_paths(path: str):
    told(send(path, method="GET"), 404, "not_found")


def test_unknown_models():
    message = told(generate({**ASK, "model": "gpt-5-vision"}), 404, "model_not_found")
    assert message.startswith("model: ") or "model" in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(["1", "png", "file", "1:1", URL, B64]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
bodies = st.dictionaries(
    st.sampled_from(sorted(aimo_shapes.Edit.model_fields)) | st.text(max_size=5),
    json_values,
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(bodies, st.booleans(), st.sampled_from(["/image/generate", "/image/edit"]))
def test_any_object_is_answered_or_refused(body: dict[str, Any], whole: bool, path: str):
    answer = send(path, json={**EDIT, **body} if whole else body)
    if answer.status_code == 200:
        assert answer.headers["content-type"].split(";")[0] in (
            "application/json", "image/png", "image/jpeg", "image/webp", "text/event-stream",
        )  # fmt: skip
    else:
        assert 400 <= answer.status_code < 500
        told(answer, answer.status_code, answer.json()["error"]["code"])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_refused(body: bytes):
    told(send("/image/generate", content=body, headers={"Content-Type": "application/json"}))
