"""Bad input for the Depicta dialect: a 4xx in its own shape with the field named, never a 500."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.dialects import depicta_shapes
from tests.server.dialects.easel import PNG, URL
from tests.server.dialects.gallery import BODIES, COMBINE, EDIT, GENERATE, Exhibition, told

HAT = {"url": URL, "description": "a hat"}

WRONG_VALUES: dict[str, list[Any]] = {
    "prompt": [None, 1, False, [], {}, "", "   \n\t", "a\0b"],
    "model": [1, True, [], {}, "", "x" * 201, "a\0b", "nobody"],
    "aspect_ratio": [1, "", "16", "1:2", "16:9:1", "auto", ["1:1"]],
    "image_size": ["", "8K", 2, "2 K", ["1K"]],
    "reference_images": [1, "x", {}, HAT, [HAT] * 6],
    "reference_images[0]": [[1], [None], ["x"], [[]]],
    "reference_images[0].url": [
        [{"description": "x"}], [HAT | {"url": None}], [HAT | {"url": ""}], [HAT | {"url": 5}],
        [HAT | {"url": "http://example.test/x.png"}], [HAT | {"url": "data:,x"}],
    ],
    "reference_images[0].description": [
        [{"url": URL}], [HAT | {"description": 1}], [HAT | {"description": "x" * 2001}],
    ],
    "reference_images[1].url": [[HAT, HAT | {"url": "data:image/png;base64,?"}]],
    "strictness": ["", "strict", True, 1],
    "n": [0, -1, 5, 1.5, "1", True, [1], 10**30, -(10**4000)],
    "negative_prompt": [1, [], "a\0b"],
    "seed": [-2, 2**31, 0.5, "7", True, [0], 10**400],
    "steps": [0, 1001, -1, "20", 1.5, True],
    "guidance": [-0.1, 50.1, "7", True, [7], 10**300],
    "strength": [0, -1, 1.01, "1", True],
    "strict": ["true", 1, 0, [], "yes"],
}  # fmt: skip
WRONG_IN: dict[str, dict[str, list[Any]]] = {
    GENERATE: {},
    EDIT: {
        "input_image_url": [
            None, 1, "", [], [URL], "http://example.test/x.png", "ftp://example.test/x", "x",
            "data:image/png;base64,AAAA=A", "data:image/png;base64,", "a\0b",
        ],
    },
    COMBINE: {
        "input_image_urls": [None, 1, URL, [], [URL], [URL] * 6, {}],
        "input_image_urls[0]": [["", URL], [None, URL], [1, URL], ["x", URL]],
        "input_image_urls[1]": [[URL, "data:image/png;base64,?"], [URL, [URL]]],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Exhibition:
    return Exhibition()


def _cases() -> list[Any]:
    return [
        pytest.param(path, name, value, id=f"{path[1:]}-{name}-{i}")
        for path, more in WRONG_IN.items()
        for name, values in (WRONG_VALUES | more).items()
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(("path", "name", "value"), _cases())
def test_a_wrong_value_names_its_field(place: Exhibition, path: str, name: str, value: Any):
    painted = len(place.gallery.drafts)
    key = name.partition("[")[0]
    content = json.dumps(BODIES[path] | {key: value})
    answer = place.send(path, content=content, headers={"Content-Type": "application/json"})
    assert name in told(answer, 422, "validation_error")
    assert len(place.gallery.drafts) == painted


def test_every_field_has_a_wrong_value():
    known = {name.partition("[")[0] for name in WRONG_VALUES}
    assert known == depicta_shapes.Generate.model_fields.keys()


def test_all_fields_at_fault_are_named_but_not_all_of_very_many(place: Exhibition):
    answer = place.asked(EDIT, n=0, seed=-5, aspect_ratio="x", input_image_url=1)
    assert told(answer, 422, "validation_error").keys() == {
        "n", "seed", "aspect_ratio", "input_image_url",
    }  # fmt: skip
    told(place.asked(COMBINE, input_image_urls=[1] * 999), 422, "validation_error")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"prompt": NaN}'])
def test_bodies_that_cannot_be_read(place: Exhibition, body: bytes):
    for path in BODIES:
        answer = place.send(path, content=body, headers={"Content-Type": "application/json"})
        told(answer, 400, "bad_request")


def test_bodies_that_are_too_large_or_of_another_type(place: Exhibition):
    told(place.asked(GENERATE, prompt="x" * 200_000), 413, "payload_too_large")
    answer = place.send(GENERATE, content=b"<x/>", headers={"Content-Type": "text/xml"})
    told(answer, 415, "unsupported_media_type")
    answer = place.send(GENERATE, json={}, headers={"Content-Encoding": "gzip"})
    told(answer, 415, "unsupported_media_type")


def test_what_nobody_knows_may_nest_as_deep_as_json_does(place: Exhibition):
    deep = json.loads("[" * 400 + "]" * 400)
    for more in ({"zz": deep}, {"reference_images": [HAT | {"zz": deep}]}):
        answer = place.asked(EDIT, **more)
        assert answer.status_code == 200, answer.text
        assert "zz" in answer.headers["x-limner-warnings"]


def test_a_form_has_no_more_values_than_json(place: Exhibition):
    crowd = json.dumps([[{}] * 30_000])
    for texts in ([crowd], [json.dumps([{}] * 15_000)] * 2):
        data = {"prompt": "x", "reference_images": texts}
        details = told(place.send(EDIT, files={"image": PNG}, data=data), 422, "validation_error")
        assert details == {"reference_images": "too many values"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.sampled_from([URL, "1:1", "1K", "liberal", "sketch"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["url", "description", "x"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.sampled_from([*depicta_shapes.Combine.model_fields, "input_image_url", "bogus"])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*BODIES]), st.dictionaries(FIELDS, ANYTHING, max_size=4))
def test_whatever_is_sent_is_answered(place: Exhibition, path: str, fields: dict[str, Any]):
    answer = place.send(
        path,
        content=json.dumps(BODIES[path] | fields),
        headers={"Content-Type": "application/json"},
    )
    if answer.status_code == 200:
        depicta_shapes.Generation.model_validate(answer.json())
    else:
        told(answer, 422, "validation_error")


PARTS = st.lists(
    st.tuples(
        st.sampled_from(["image", "images", "images[]", "prompt", "n", "reference_images", "x"]),
        st.sampled_from([PNG, b"", b"{", b"[1]", b"2", b"\xff", json.dumps([HAT]).encode()]),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([EDIT, COMBINE, "/upload"]), PARTS)
def test_whatever_form_is_sent_is_answered(place: Exhibition, path: str, parts: list[Any]):
    pieces = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b'; filename="f"' if is_file else b"", data)
        for name, data, is_file in parts
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = place.send(path, content=pieces + b"--b--\r\n", headers=kind)
    if answer.status_code != 200:
        told(
            answer,
            answer.status_code,
            {400: "bad_request"}.get(answer.status_code, "validation_error"),
        )
        assert answer.status_code in (400, 422)
