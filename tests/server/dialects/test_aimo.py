"""The AIMO dialect against a service that is scripted: fields in, answers out, nothing dropped."""

import base64
import json
import re
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import pytest

from server import errors
from server.dialects import aimo, aimo_shapes
from server.errors import Overloaded, Refusal
from server.jobs.intake import Draft
from tests.server.dialects.easel import (
    ASK,
    B64,
    EDIT,
    PNG,
    URL,
    Easel,
    edit,
    events,
    every_refusal,
    generate,
    send,
    told,
    understood,
)

# -- Fields in ------------------------------------------------------------------------------------

ACTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
    ({"n": 3}, {"n": 3}),
    ({"n": 3.0}, {"n": 3}),
    ({"width": "1024", "height": 768}, {"width": 1024, "height": 768}),
    ({"width": "0512"}, {"width": 512}),
    ({"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9"}),
    ({"aspect_ratio": " 16 : 09 "}, {"aspect_ratio": "16:9"}),
    ({"resolution": "2k"}, {"resolution": "2K"}),
    ({"seed": 0}, {"seed": 0}),
    ({"seed": 2**31 - 1}, {"seed": 2**31 - 1}),
    ({"seed": -1}, {"seed": None}),
    ({"steps": 1000}, {"steps": 1000}),
    ({"guide_scale": 0}, {"guidance": 0.0}),
    ({"guide_scale": 7.5}, {"guidance": 7.5}),
    ({"quality": "low"}, {"quality": "low"}),
    ({"quality": "auto"}, {"quality": None}),
    ({"style": "like a woodcut"}, {"style": "like a woodcut"}),
    ({"style_preset": "anime"}, {"style_preset": "anime"}),
    ({"output_format": "webp"}, {"output_format": "webp"}),
    ({"output_format": "jpg"}, {"output_format": "jpeg"}),
    ({"output_type": "data_url"}, {}),
    ({"output_type": "file"}, {}),
    ({"stream": True}, {"preview": True}),
    ({"stream": False}, {"preview": False}),
    ({"user": "u-1"}, {"user": "u-1"}),
    ({"metadata": {"a": [1, {"b": None}]}}, {"metadata": {"a": [1, {"b": None}]}}),
    ({"embed_exif_metadata": True}, {"embed_metadata": True}),
    ({"hide_watermark": True}, {}),
    ({"hide_watermark": False, "safe_mode": False, "watermark": False}, {}),
    ({"prompt_extend": False, "enable_web_search": False}, {}),
    ({"lora_strength": 30}, {"lora_strength": 30}),
    ({"strict": True}, {"strict": True}),
    ({"prompt": "  \u00e4 \U0001f3a8 "}, {"prompt": "  \u00e4 \U0001f3a8 "}),
]  # fmt: skip
ACTS_IN_EDITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"images": (PNG,), "task": "edit", "mask": None}),
    ({"n": 6}, {"n": 6}),
    ({"images": [URL, {"b64": B64}, {"url": URL}]}, {"images": (PNG,) * 3}),
    ({"images": [{"b64": B64, "url": None}, B64]}, {"images": (PNG,) * 2}),
    ({"mask": {"b64": B64}}, {"mask": PNG}),
    ({"mask": URL}, {"mask": PNG}),
    ({"strength": 1}, {"strength": 1.0}),
    ({"strength": 0.25, "steps": 9}, {"strength": 0.25, "steps": 9}),
]  # fmt: skip


def plain_draft(base: dict[str, Any]) -> Draft:
    task = "edit" if "images" in base else "generate"
    images = (PNG,) if task == "edit" else ()
    return Draft(dialect="aimo", task=task, model="sketch", prompt="a red circle", images=images)


@pytest.mark.parametrize(
    ("base", "asked", "meant"),
    [(ASK, *case) for case in ACTS] + [(EDIT, *case) for case in ACTS + ACTS_IN_EDITS],
)
def test_fields_act_and_nothing_else_changes(
    base: dict[str, Any], asked: dict[str, Any], meant: dict[str, Any]
):
    draft, plain = understood({**base, **asked}), plain_draft(base)
    for field in fields_of(Draft):
        wanted = meant.get(field.name, getattr(plain, field.name))
        assert getattr(draft, field.name) == wanted, field.name


def test_null_is_the_same_as_absent():
    optional = aimo_shapes.Edit.model_fields.keys() - {"model", "prompt", "images"}
    assert understood({**EDIT, **dict.fromkeys(optional)}) == understood(EDIT)


@pytest.mark.parametrize("name", aimo.NOT_YET)
def test_what_comes_later_is_warned_of(name: str):
    answer = generate({**ASK, name: True})
    raw = answer.json()["provider_metadata"]["raw"]
    assert name in [warning["param"] for warning in raw["warnings"]]
    assert json.loads(answer.headers["x-limner-warnings"]) == raw["warnings"]


def test_unknown_fields_are_named_but_not_all_of_many():
    draft = understood({**ASK, **{f"key{i}": i for i in range(25)}})
    assert [notice.param for notice in draft.ignored] == [f"key{i}" for i in range(20)] + [""]
    assert draft.ignored[-1].message.startswith("5 more")


def test_unknown_fields_are_named_wherever_they_are():
    image = {"b64": URL, "detail": "low"}
    draft = understood({**EDIT, "images": [URL, image], "mask": image, "k\u00e9y" * 99: 1})
    names = [notice.param for notice in draft.ignored]
    assert names[1:] == ["images[1].detail", "mask.detail"]
    assert len(json.dumps(names[0])) <= 52


def test_the_house_has_other_words_but_the_client_does_not_hear_them():
    answer = generate({**ASK, "guide_scale": 50})
    [warning] = answer.json()["provider_metadata"]["raw"]["warnings"]
    assert warning["param"] == "guide_scale"
    refusal = errors.BadRequest("too much", param="guidance")
    assert aimo.error_document(refusal)["error"]["message"] == "guide_scale: too much"


def test_what_is_unknown_is_named_as_it_was_sent():
    for more in ({}, {"stream": True}, {"output_type": "file"}):
        answer = generate(ASK | {"guidance": 7, "embed_metadata": True} | more)
        warnings = json.loads(answer.headers["x-limner-warnings"])
        named = [each["param"] for each in warnings]
        assert named == ["guidance", "embed_metadata", "guide_scale"]


# -- Answers --------------------------------------------------------------------------------------


def test_a_whole_answer():
    answer = generate({**ASK, "n": 2, "seed": 7, "metadata": {"order": "\u00e4"}})
    body = answer.json()
    aimo_shapes.Answer.model_validate(body)
    assert body == {
        "id": "img-1",
        "created": 1_700_000_000,
        "status": "completed",
        "images": [
            {
                "index": i,
                "data_url": f"data:image/png;base64,{base64.b64encode(b'image%d' % i).decode()}",
                "width": 64,
                "height": 48,
                "format": "png",
                "seed": 7 + i,
            }
            for i in range(2)
        ],
        "provider_metadata": {
            "provider": "limner",
            "raw": {
                "model": "sketch",
                "steps": 12,
                "guide_scale": 3.0,
                "paint_size": {"width": 128, "height": 96},
                "seconds": {"queue": 0.0001, "paint": 1.0, "total": 1.1},
                "missed": [],
                "warnings": [{"param": "guide_scale", "message": "asked for 50, used 10"}],
                "metadata": {"order": "\u00e4"},
            },
        },
    }
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_an_edit_says_the_sizes_of_its_inputs():
    assert (
        edit({**EDIT, "images": [URL, URL]}).json()["input_images"]
        == [{"width": 40, "height": 30}] * 2
    )


def test_some_missed():
    answer = generate({**ASK, "n": 3}, Easel(misses=(0, 2)))
    body = answer.json()
    aimo_shapes.Answer.model_validate(body)
    assert answer.status_code == 200
    assert body["status"] == "failed"
    assert [image["index"] for image in body["images"]] == [1]
    assert body["error"] == {
        "error": {"code": "insufficient_memory", "message": "too large for the device"}
    }
    assert body["provider_metadata"]["raw"]["missed"] == [0, 2]


@pytest.mark.parametrize("how", [{}, {"output_type": "file"}])
def test_all_missed(how: dict[str, Any]):
    answer = generate({**ASK, **how}, Easel(misses=(0,)))
    assert told(answer, 503, "insufficient_memory") == "too large for the device"
    assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_file(kind: str):
    asked = {"output_type": "file", "output_format": kind, "seed": 5, "safe_mode": True}
    answer = generate({**ASK, **asked})
    assert answer.content == b"image0"
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.headers["x-limner-seed"] == "5"
    assert answer.headers["x-limner-id"] == "img-1"
    named = [warning["param"] for warning in json.loads(answer.headers["x-limner-warnings"])]
    assert named == ["safe_mode", "guide_scale"]


def test_a_stream():
    asked = {"n": 2, "seed": 7, "stream": True, "safe_mode": True}
    answer = generate({**ASK, **asked})
    said = events(answer)
    for document in said:
        aimo_shapes.Answer.model_validate(document)
    assert [document["status"] for document in said] == ["processing"] * 6 + ["completed"]
    assert {(document["id"], document["created"]) for document in said} == {
        ("img-1", 1_700_000_000)
    }
    kinds = [
        (
            [image["index"] for image in document["images"]],
            document.get("partial_image_index"),
            document["provider_metadata"]["raw"].get("step"),
        )
        for document in said[:-1]
    ]
    assert kinds == [
        ([], None, 1), ([0], 0, 2), ([0], None, None),
        ([], None, 1), ([1], 0, 2), ([1], None, None),
    ]  # fmt: skip
    assert "seed" not in said[1]["images"][0]
    assert said[2]["images"] == said[-1]["images"][:1]
    whole = generate({**ASK, **asked, "stream": False}).json()
    assert said[-1] == whole
    assert answer.headers["x-limner-warnings"].startswith('[{"param": "safe_mode"')


def test_a_stream_in_which_all_are_missed():
    said = events(generate({**ASK, "stream": True}, Easel(misses=(0,))))
    assert said[-1] == {
        "error": {"code": "insufficient_memory", "message": "too large for the device"}
    }


@pytest.mark.parametrize("error", [Overloaded("later"), RuntimeError("secret")])
def test_a_stream_that_breaks(error: Exception):
    said = events(generate({**ASK, "stream": True}, Easel(breaks=error)))
    assert said[-1].keys() == {"error"}
    assert "secret" not in str(said)


def test_a_stream_that_does_not_start():
    told(generate({**ASK, "stream": True, "model": "x"}), 404, "model_not_found")


def test_a_bug_is_a_generic_500():
    message = told(generate(ASK, Easel(breaks=RuntimeError("secret"))), 500, "internal_error")
    assert "secret" not in message


@pytest.mark.parametrize("kind", every_refusal())
def test_every_code_has_its_body(kind: type[Refusal]):
    answer = generate(ASK, Easel(breaks=kind("x" * 5000 + "\u00e9", param="n", retry_after=9)))
    assert told(answer, kind.status, kind.code).startswith("n: xxx")
    assert answer.headers["retry-after"] == "9"


# -- Documents ------------------------------------------------------------------------------------


def test_openapi():
    page = send("/openapi.json", method="GET").json()
    others = {"/models", "/session/balance"}
    assert page["paths"].keys() == {"/image/generate", "/image/edit"} | others
    for path, shape in (("generate", aimo_shapes.Generate), ("edit", aimo_shapes.Edit)):
        operation = page["paths"][f"/image/{path}"]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["properties"].keys() == shape.model_fields.keys()
        assert operation["responses"]["200"]["content"].keys() == {
            "application/json", "text/event-stream", "image/png", "image/jpeg", "image/webp",
        }  # fmt: skip
        refused = operation["responses"]["400"]["content"]["application/json"]["schema"]
        assert refused == {"$ref": "#/components/schemas/Error"}
        assert "422" in operation["responses"]
    assert "HTTPValidationError" not in page["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(page))
    assert set(references) <= page["components"]["schemas"].keys()


def test_the_models_and_a_balance_are_told():
    models = send("/models", method="GET").json()["data"]
    assert [(row["name"], row["limner"]["tasks"]) for row in models] == [
        ("sketch", ["generate", "edit", "inpaint"])
    ]
    balance = send("/session/balance", method="GET").json()
    assert balance == {"caip_account_id": "", "balance_micro_usdc": 0, "balance_usd": "0.000000"}


def test_the_docs_page_exists():
    assert "swagger" in send("/docs", method="GET").text


def test_every_field_is_documented_and_none_is_invented():
    text = Path(__file__).parents[3].joinpath("docs", "dialects.md").read_text("utf-8")
    section = text.split("\n## AIMO\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.\[\]]+)` \|(.*)\|$", section, re.MULTILINE)
    wanted = {*aimo_shapes.Edit.model_fields}
    wanted |= {f"images[].{name}" for name in aimo_shapes.ImageSource.model_fields}
    assert {name for name, _ in rows} == wanted
    assert len(rows) == len(wanted)
    for letter, shape in (("g", aimo_shapes.Generate), ("e", aimo_shapes.Edit)):
        there = {name for name, row in rows if letter in row.split("|")[0].split()}
        assert {name for name in there if "." not in name} == {*shape.model_fields}
    for name, row in rows:
        effect = row.split("|")[2].strip().split(" ")[0].rstrip(":;,.")
        assert effect in ("honoured", "refused", "warned"), (name, effect)
        assert (effect == "warned") == (name in aimo.NOT_YET), name
