"""The OpenAI dialect against a service that is scripted: answers, events, errors, models."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct

from server import errors
from server.dialects import openai_answers, openai_shapes
from server.errors import Overloaded, Refusal
from server.images.pictures import Picture
from server.jobs.intake import Draft
from server.jobs.service import Painted, Progress
from tests.server.dialects.easel import every_refusal, result_of
from tests.server.dialects.openai_easel import (
    APP,
    ASK,
    EDIT,
    Easel,
    edit,
    events,
    generate,
    send,
    told,
)

SPOKEN = {**ASK, "model": "sketch"}
ALL = ["blind", "maskless", "sketch"]
B64 = [base64.b64encode(b"image%d" % i).decode() for i in range(3)]

# -- Answers --------------------------------------------------------------------------------------

WARNED = [{"param": "guidance", "message": "asked for 50, used 10"}]


def test_a_whole_answer():
    answer = generate({**SPOKEN, "n": 2, "seed": 7, "quality": "hd", "user": "u"})
    body = answer.json()
    openai_shapes.Answer.model_validate(body)
    assert body == {
        "created": 1_700_000_000,
        "data": [{"b64_json": B64[i], "index": i, "seed": 7 + i} for i in range(2)],
        "background": "opaque",
        "output_format": "png",
        "size": "64x48",
        "quality": "high",
        "safety_identifier": "u",
        "limner": {
            "id": "img-1",
            "model": "sketch",
            "steps": 12,
            "guidance": 3.0,
            "paint_size": "128x96",
            "seconds": {"queue": 0.0001, "paint": 1.0, "total": 1.1},
            "missed": [],
            "warnings": WARNED,
        },
    }
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert json.loads(answer.headers["x-limner-warnings"]) == WARNED


def test_a_prompt_that_was_painted_otherwise_is_told():
    draft = Draft(dialect="openai", task="generate", model="sketch", prompt="x <lora:a:1>")
    result = result_of(draft, [Painted(0, 1, Picture(b"", "png", 1, 1))])
    order = result.order
    said = replace(result, order=replace(order, job=replace_struct(order.job, prompt="x, anime")))
    [picture] = openai_answers.render(said, [{"url": "u"}])["data"]
    assert picture == {"url": "u", "revised_prompt": "x, anime", "index": 0, "seed": 1}


def test_an_unknown_field_keeps_its_name_in_the_answer():
    answer = generate({**SPOKEN, "width": 9})
    named = [each["param"] for each in json.loads(answer.headers["x-limner-warnings"])]
    assert named == ["width", "guidance"]


@pytest.mark.parametrize(
    ("asked", "links"),
    [
        ({}, False),
        ({"model": ""}, False),
        ({"model": "gpt-image-1"}, False),
        ({"model": "sketch"}, False),
        ({"model": "dall-e-2"}, True),
        ({"model": " DALL-E-2"}, True),
        ({"model": "dall-e-2", "response_format": None}, True),
        ({"model": "dall-e-2", "response_format": "b64_json"}, False),
        ({"model": "sketch", "response_format": "url"}, True),
    ],
)
def test_pictures_come_as_links_or_inline(asked: dict[str, Any], links: bool):
    for answer in (generate({**ASK, **asked}), send("/images/edits", json={**EDIT, **asked})):
        [picture] = answer.json()["data"]
        openai_shapes.Answer.model_validate(answer.json())
        assert ("url" in picture, "b64_json" in picture) == (links, not links)
        if links:
            assert picture["url"].startswith("http://test/files/")
            assert "signature=" in picture["url"]


def test_some_missed():
    answer = generate({**SPOKEN, "n": 3}, Easel(misses=(0, 2)))
    body = answer.json()
    assert answer.status_code == 200
    openai_shapes.Answer.model_validate(body)
    assert [(each["index"], each["b64_json"]) for each in body["data"]] == [(1, B64[1])]
    assert [each["index"] for each in body["limner"]["missed"]] == [0, 2]
    assert body["limner"]["missed"][0]["error"]["code"] == "insufficient_memory"
    said = "2 of 3 not painted: too large for the device"
    assert json.loads(answer.headers["x-limner-warnings"])[0] == {"param": "n", "message": said}


def test_all_missed():
    answer = generate(ASK, Easel(misses=(0,)))
    error = told(answer, 503, "insufficient_memory")
    assert error == {
        "message": "too large for the device",
        "type": "server_error",
        "param": None,
        "code": "insufficient_memory",
    }
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["x-should-retry"] == "false"


# -- Streams --------------------------------------------------------------------------------------


def test_a_stream():
    asked = {**SPOKEN, "n": 2, "seed": 7, "stream": True, "partial_images": 1, "user": "u"}
    said = events(generate(asked))
    common = {
        "created_at": 1_700_000_000,
        "quality": "auto",
        "background": "opaque",
        "safety_identifier": "u",
    }
    tiny = base64.b64encode(b"tiny").decode()
    partial = common | {
        "type": "image_generation.partial_image",
        "b64_json": tiny,
        "size": "32x32",
        "output_format": "webp",
        "partial_image_index": 0,
    }
    completed = common | {
        "type": "image_generation.completed",
        "size": "64x48",
        "output_format": "png",
        "usage": openai_answers.USAGE,
    }
    about = said[-1].pop("limner")
    assert said == [
        partial | {"index": 0},
        completed | {"index": 0, "b64_json": B64[0], "seed": 7},
        partial | {"index": 1},
        completed | {"index": 1, "b64_json": B64[1], "seed": 8},
    ]
    assert about == generate({**asked, "stream": False}).json()["limner"] | {"warnings": WARNED}


@pytest.mark.parametrize("name", ["guidance", "guidance_scale", "true_cfg_scale"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_synonym_is_named_as_it_was_sent(name: str, stream: bool):
    answer = generate({**SPOKEN, name: 50, "stream": stream})
    named = [each["param"] for each in json.loads(answer.headers["x-limner-warnings"])]
    assert named == [name]


def test_a_stream_names_its_warnings_at_once():
    answer = generate({**SPOKEN, "stream": True, "bogus": 1})
    named = [each["param"] for each in json.loads(answer.headers["x-limner-warnings"])]
    assert named == ["bogus", "guidance"]


def test_edits_have_events_of_their_own():
    for said in (
        events(edit({**SPOKEN, "stream": "true", "partial_images": "3"})),
        events(send("/images/edits", json={**EDIT, "stream": True, "partial_images": 3})),
    ):
        kinds = [event["type"] for event in said]
        assert kinds == ["image_edit.partial_image", "image_edit.completed"]


@pytest.mark.parametrize(
    ("partials", "steps", "every", "sent"),
    [
        (0, 12, 1, []),
        (1, 12, 1, [6]),
        (2, 12, 1, [4, 8]),
        (3, 12, 1, [3, 6, 9]),
        (3, 12, 4, [4, 8, 12]),
        (3, 50, 4, [16, 28, 40]),
        (3, 4, 4, [4]),
        (3, 2, 1, [1, 2]),
    ],
)
def test_previews_are_spread_evenly(partials: int, steps: int, every: int, sent: list[int]):
    draft = Draft(dialect="openai", task="generate", model="sketch", prompt="x")
    stream = openai_answers.Events("image_generation", draft, partials)
    found: list[int] = []
    for step in range(1, steps + 1):
        preview = None if step % every else Picture(b"", "jpeg", 1, 1)
        for event in stream.of(Progress(0, step, steps, preview)):
            assert event["partial_image_index"] == len(found)
            found.append(step)
    assert found == sent


def test_a_stream_in_which_some_are_missed():
    said = events(generate({**SPOKEN, "n": 2, "stream": True}, Easel(misses=(0,))))
    assert [event.get("type") for event in said] == ["image_generation.completed", None]
    assert "limner" in said[0]
    assert said[1]["error"]["code"] == "insufficient_memory"


def test_a_stream_in_which_the_last_is_missed():
    said = events(generate({**SPOKEN, "n": 2, "stream": True}, Easel(misses=(1,))))
    assert [event.get("type") for event in said] == ["image_generation.completed", None]


@pytest.mark.parametrize("error", [Overloaded("later"), RuntimeError("secret")])
def test_a_stream_that_breaks(error: Exception):
    said = events(generate({**ASK, "stream": True}, Easel(breaks=error)))
    assert said[-1].keys() == {"error"}
    assert said[-1]["error"].keys() == {"message", "type", "param", "code"}
    assert "secret" not in str(said)


def test_a_stream_that_does_not_start():
    told(generate({**ASK, "stream": True, "model": "x"}), 404, "model_not_found")


# -- Errors ---------------------------------------------------------------------------------------


CODES = {
    errors.BadMask: "invalid_mask_image_format",
    **dict.fromkeys(every_refusal(errors.BadImage), "invalid_image_file"),
}
FINAL = ("InternalError", "WorkerDied", "ModelFailed", "OutOfMemory")


@pytest.mark.parametrize("kind", every_refusal())
def test_every_code_has_its_body(kind: type[Refusal]):
    answer = generate(ASK, Easel(breaks=kind("x" * 5000 + "\u00e9", param="n", retry_after=9)))
    error = told(answer, kind.status, CODES.get(kind, kind.code))
    assert error["message"].startswith("n: xxx")
    assert error["param"] == "n"
    assert answer.headers["retry-after"] == "9"
    if kind in CODES:
        assert error["type"] == "image_generation_user_error"
    else:
        assert error["type"] == ("server_error" if kind.status >= 500 else "invalid_request_error")
    assert answer.headers.get("x-should-retry") == ("false" if kind.__name__ in FINAL else None)


def test_too_many_requests_have_their_type():
    class TooMany(Refusal):
        code, status = "rate_limit_exceeded", 429

    error = openai_answers.error_document(TooMany("slow down"))["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("message", "param", "says", "named"),
    [
        ("width must be from 64", "width", "size must be from 64", "size"),
        ("broken", "images[3]", "image[3]: broken", "image[3]"),
        ("an edit needs an image", "images", "an edit needs an image", "image"),
        ("images[0].image_url: no", "images[0].image_url", None, "images[0].image_url"),
        ("images: no", "images", None, "images"),
        ("mask: no", "mask", None, "mask"),
        ("no", None, "no", None),
    ],
)
def test_fields_are_called_as_clients_know_them(
    message: str, param: str | None, says: str | None, named: str | None
):
    error = openai_answers.error_document(errors.BadRequest(message, param=param))["error"]
    assert (error["message"], error["param"]) == (says or message, named)


def test_a_bug_is_a_generic_500():
    error = told(generate(ASK, Easel(breaks=RuntimeError("secret"))), 500, "internal_error")
    assert "secret" not in error["message"]


# -- Models and documents -------------------------------------------------------------------------


def test_models_are_listed():
    body = send("/models", method="GET").json()
    openai_shapes.Rows.model_validate(body)
    assert [row["id"] for row in body["data"]] == ALL
    for kind, ids in (("image", ["blind", "sketch"]), ("inpaint", ALL[1:]), ("text", [])):
        rows = send("/models", method="GET", params={"type": kind}).json()["data"]
        assert [row["id"] for row in rows] == ids


@pytest.mark.parametrize("name", ["sketch", "SKETCH", "gpt-image-1", "lab/sketch", "lab%2Fsketch"])
def test_a_model_is_told_by_its_names(name: str):
    body = send(f"/models/{name}", method="GET").json()
    openai_shapes.Row.model_validate(body)
    assert body["id"] == "sketch"
    assert body == send("/models", method="GET").json()["data"][2]


def test_every_model_is_told_as_it_is_listed():
    listed = send("/models", method="GET").json()["data"]
    assert listed[0]["model_spec"]["traits"] == ["default", "fastest", "highest_quality"]
    assert [send(f"/models/{name}", method="GET").json() for name in ALL] == listed


def test_there_is_no_other_model():
    error = told(send("/models/a/b/c", method="GET"), 404, "model_not_found")
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "model"


def test_the_docs_page_exists():
    assert "swagger" in send("/docs", method="GET").text
    assert "HTTPValidationError" not in APP.openapi()["components"]["schemas"]
