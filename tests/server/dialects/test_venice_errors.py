"""Refusals in Venice's shapes: every code, in the words and with the status of its operation."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server import errors
from server.errors import Refusal
from tests.server.dialects.easel import PNG, every_refusal
from tests.server.dialects.venice_stand import (
    BODIES,
    EDIT,
    FORMS,
    PAINTS,
    Easel,
    ask,
    at_fault,
    form,
    send,
    told,
)

# What Venice's documentation says of a status, and of its text.
SPECIAL: dict[type[Refusal], tuple[int, str]] = {
    errors.BadRequest: (400, "Invalid request parameters"),
    errors.BadImage: (400, "The image file is corrupted or unreadable"),
    errors.ImageTooSmall: (400, "Image dimensions are too small"),
    errors.ImageTooLarge: (422, "Image dimensions exceed the maximum allowed."),
    errors.Unprocessable: (400, "Invalid request parameters"),
    errors.FetchOff: (400, "Invalid request parameters"),
    errors.FetchFailed: (400, "Invalid request parameters"),
    errors.TooLarge: (413, "File exceeds the maximum allowed size of 0.0572205 MB."),
    errors.UnsupportedMedia: (415, "Invalid request content-type: "),
    errors.Overloaded: (503, "The model is at capacity. Please try again later. "),
    errors.InternalError: (500, "Inference processing failed: "),
}


@pytest.mark.parametrize("kind", every_refusal())
@pytest.mark.parametrize("path", BODIES)
def test_every_code_has_its_body(path: str, kind: type[Refusal]):
    broken = kind("x" * 5000 + "\u00e9", param="n", retry_after=9)
    answer = ask(path, Easel(breaks=broken))
    status, headline = SPECIAL.get(kind, (kind.status, ""))
    if kind is errors.UnknownModel:
        edits = path not in ("/image/generate", "/images/generations")
        status, headline = (
            (400, "Invalid model id") if edits else (404, "Specified model not found")
        )
    body = told(answer, status)
    assert body["error"].startswith(headline)
    assert "xxx" in answer.text
    assert answer.headers["retry-after"] == "9"
    assert answer.headers["cache-control"] == "no-store"
    if status == 400:
        assert at_fault(body) == ["variants" if path == "/image/generate" else "n"]


def test_a_bug_is_a_generic_500():
    body = told(ask("/image/edit", Easel(breaks=RuntimeError("secret"))), 500)
    assert body["error"].startswith("Inference processing failed: an error inside the server")
    assert "secret" not in body["error"]


@pytest.mark.parametrize(
    ("path", "said", "status", "text"),
    [
        ("/image/edit", {"model": "x"}, 400, "Invalid model id"),
        ("/image/edit", {"modelId": "x"}, 400, "Invalid model id"),
        ("/image/multi-edit", {"modelId": "x"}, 400, "Invalid model id"),
        (
            "/image/generate",
            {"model": "x"},
            404,
            "Specified model not found: there is no such model",
        ),
    ],
)
def test_unknown_models(path: str, said: dict[str, Any], status: int, text: str):
    body = told(ask(path, **said), status)
    assert body["error"] == text or body["error"].startswith(text + " ")
    if status == 400:
        assert at_fault(body) == [*said]


@pytest.mark.parametrize("said", [{"modelId": "sketch"}, {"model": "sketch"}, {}])
def test_a_model_is_named_as_it_was_sent(said: dict[str, Any]):
    broken = errors.Unprocessable("sketch does not edit", param="model")
    body = told(ask("/image/edit", Easel(breaks=broken), **said))
    assert at_fault(body) == ([*said] or ["model"])


def test_a_missing_field_is_required_by_name():
    body = told(send("/image/generate", json={"prompt": "x"}))
    assert body == {
        "error": "Invalid request parameters",
        "details": {"_errors": [], "model": {"_errors": ["model is required"]}},
        "issues": [{"code": "invalid_type", "path": ["model"], "message": "model is required"}],
    }


@pytest.mark.parametrize("path", [each for each in BODIES if each != "/image/upscale"])
def test_unknown_keys_are_refused_and_named(path: str):
    for answer in (ask(path, zz=1, safe=2), *([form(path, zz=1, safe=2)] if path in FORMS else [])):
        body = told(answer)
        message = "Unrecognized key(s) in object: 'zz', 'safe'"
        assert body["details"] == {"_errors": [message]}
        assert body["issues"] == [{"code": "unrecognized_keys", "path": [], "message": message}]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/image/multi-edit", "model"), ("/image/background-remove", "model"),
     ("/images/generations", "safe_mode"), ("/image/edit", "seed")],
)  # fmt: skip
def test_keys_that_are_others_are_unknown(path: str, name: str):
    assert f"'{name}'" in told(ask(path, **{name: "x"}))["details"]["_errors"][0]


def test_an_unknown_key_inside_is_named_where_it_is():
    body = told(ask("/image/generate", style_references=[{"image": "a", "weight": 1}]))
    assert body["issues"][0]["path"] == ["style_references", 0]
    assert "'weight'" in body["issues"][0]["message"]


def test_an_image_is_named_as_the_client_named_it():
    broken = errors.ImageTooSmall("images[0]: the image is 1x1; more is needed", param="images[0]")
    body = told(ask("/image/edit", Easel(breaks=broken)))
    message = "the image is 1x1; more is needed"
    assert body["details"] == {"_errors": [], "image": {"_errors": [message]}}
    body = told(ask("/image/multi-edit", Easel(breaks=broken)))
    assert body["issues"][0]["path"] == ["images", 0]
    assert body["details"]["images"]["0"]["_errors"] == [message]
    large = errors.ImageTooLarge("images[0]: the image is 9x9", param="images[0]")
    body = told(ask("/image/edit", Easel(breaks=large)), 422)
    assert body["error"].endswith("allowed. image: the image is 9x9")


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        ("n must be from 1 to 4", "variants must be from 1 to 4"),
        ("n: too many", "too many"),
        ("not so many", "not so many"),
        ("a number n of them", "a number n of them"),
    ],
)
def test_only_the_name_of_a_field_is_translated(message: str, heard: str):
    broken = errors.BadRequest(message, param="n")
    body = told(ask("/image/generate", Easel(breaks=broken)))
    assert body["details"]["variants"]["_errors"] == [heard]


def test_long_keys_leave_room_for_the_others():
    body = told(ask("/image/edit", **{f"{i}{'k' * 400}": 1 for i in range(9)}))
    [message] = body["details"]["_errors"]
    assert message.startswith("Unrecognized key(s) in object: '0kk")
    assert message.endswith("' and 6 more")


@pytest.mark.parametrize("path", ["/image/upscale", "/image/background-remove"])
def test_an_address_where_only_base64_is_taken_is_called_one(path: str):
    body = told(ask(path, image="https://example.test/a.png"))
    assert body["error"] == "Invalid request parameters"
    assert body["details"]["image"]["_errors"] == ["must be base64 or a data URL, no address"]


def test_one_picture_is_no_several():
    body = told(ask("/image/generate", return_binary=True, variants=2))
    assert at_fault(body) == ["variants"]


def test_many_mistakes_are_counted():
    wrong = dict.fromkeys(["width", "height", "steps", "seed", "variants", "cfg_scale"], "x")
    body = told(ask("/image/generate", **wrong, **{f"{'k' * 400}{i}": 1 for i in range(30)}))
    assert len(body["issues"]) == 5
    assert body["issues"][-1]["message"] == "and 3 more"
    codes = {issue["code"] for issue in body["issues"][:-1]}
    assert codes == {"invalid_type"}


@pytest.mark.parametrize("path", FORMS)
def test_a_file_over_the_limit(path: str):
    name = "images" if path == "/image/multi-edit" else "image"
    large = PNG.ljust(60_001, b"x")
    texts = {"prompt": "x"} if path in PAINTS else {}
    body = told(send(path, data=texts, files=[(name, ("a.png", large))]), 413)
    assert body["code"] == "PAYLOAD_TOO_LARGE"
    assert re.fullmatch(
        rf"File exceeds the maximum allowed size of 0\.0572205 MB\. \({name}.*60000 bytes\)",
        body["error"],
    )


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_body_over_the_limit(declared: bool, kind: str):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b" " * 1000

    content = b" " * 300_000 if declared else pieces()
    body = told(send("/image/edit", content=content, headers={"Content-Type": kind}), 413)
    assert body["error"].startswith("Request body exceeds the maximum allowed size. (")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_other_content_types(path: str, kind: str):
    body = told(send(path, content=b"{}", headers={"Content-Type": kind}), 415)
    takes_forms = body["error"].endswith("application/json or multipart/form-data")
    assert takes_forms == (path in FORMS)


@pytest.mark.parametrize("path", [path for path in BODIES if path not in FORMS])
def test_a_form_where_there_is_none(path: str):
    told(form(path), 415)


@pytest.mark.parametrize(
    ("files", "texts", "names"),
    [
        ([], {}, "image"),
        ([("image", PNG), ("image", PNG)], {}, "image"),
        ([("image", PNG)], {"image": EDIT["image"]}, "image"),
        ([("image", b"")], {}, "image"),
        ([("image", b"GIF89a")], {}, "image"),
        ([("picture", PNG)], {}, ""),
        ([("image", PNG)], {"prompt": ""}, "prompt"),
        ([("image", PNG)], {"safe_mode": "maybe"}, "safe_mode"),
    ],
)
def test_wrong_forms(files: list[tuple[str, bytes]], texts: dict[str, str], names: str):
    data = {"prompt": "x"} | texts
    parts: list[Any] = [(name, ("a.png", data)) for name, data in files]
    parts += [(name, (None, text)) for name, text in data.items()]
    assert names in at_fault(told(send("/image/edit", files=parts)))


@pytest.mark.parametrize(
    "name", ["_errors", "a._errors.b", "9" * 3000, "a." * 1500, "\U0001f600" * 900]
)
def test_a_name_of_any_kind_is_refused_as_others_are(name: str):
    twice, file, text = (name, ("a.png", PNG)), (name, ("b.png", PNG)), (name, (None, "x"))
    for parts in ([twice, file], [file, text]):
        body = told(send("/image/edit", files=[*parts, ("prompt", (None, "x"))]))
        assert name[:1] in f"{at_fault(body)[0]}: {body['issues'][0]['message']}"


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("name", ["self", "shape", "more", "cls"])
def test_a_file_may_be_called_anything(path: str, name: str):
    told(send(path, data={"prompt": "x"}, files=[(name, ("a.png", PNG))]))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", BODIES)
def test_other_methods(path: str, method: str):
    assert "POST" in send(path, method=method).headers["allow"]
    told(send(path, method=method), 405)


def test_other_paths():
    assert told(send("/image/nothing"), 404) == {"error": "there is no POST /image/nothing"}
