"""The OpenAI dialect against a service that is scripted: fields in, and nothing dropped."""

import json
import re
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import pytest

from server.dialects import openai_shapes
from server.jobs.intake import Draft
from tests.server.dialects.easel import PNG, URL
from tests.server.dialects.openai_easel import (
    ASK,
    EDIT,
    Easel,
    edit,
    generate,
    send,
    understood,
)

SPOKEN = {**ASK, "model": "sketch"}
JPEG = {"output_format": "jpeg"}
SCALE = {"guidance": "guidance_scale"}

# -- Fields in ------------------------------------------------------------------------------------

# What is asked, what it means, and what does not act.
ACTS: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"model": "dall-e-2"}, {"model": "dall-e-2"}, []),
    ({"n": 3}, {"n": 3}, []),
    ({"n": 10}, {"n": 10}, []),
    ({"size": "auto"}, {}, []),
    ({"size": ""}, {}, []),
    ({"size": "1792x1024"}, {"width": 1792, "height": 1024}, []),
    ({"size": "64x8192"}, {"width": 64, "height": 8192}, []),
    ({"quality": "auto"}, {}, []),
    ({"quality": "standard"}, {}, []),
    ({"quality": "low"}, {"quality": "low"}, []),
    ({"quality": "medium"}, {"quality": "medium"}, []),
    ({"quality": "high"}, {"quality": "high"}, []),
    ({"quality": "hd"}, {"quality": "high"}, []),
    ({"quality": "xhigh"}, {"quality": "high"}, ["quality"]),
    ({"quality": "max"}, {"quality": "high"}, ["quality"]),
    ({"response_format": "b64_json"}, {}, []),
    ({"response_format": "url"}, {}, []),
    ({"output_format": "png"}, {}, []),
    ({"output_format": "webp"}, {"output_format": "webp"}, []),
    ({"output_format": "jpg"}, {"output_format": "jpeg"}, []),
    ({**JPEG, "output_compression": 30}, {**JPEG, "output_quality": 30}, []),
    ({**JPEG, "output_compression": 0}, {**JPEG, "output_quality": 1}, []),
    ({"output_compression": 100}, {}, []),
    ({"output_compression": 99}, {}, ["output_compression"]),
    ({"background": "auto"}, {}, []),
    ({"background": "opaque"}, {}, []),
    ({"background": "transparent"}, {}, ["background"]),
    ({"moderation": "low"}, {}, []),
    ({"moderation": "auto"}, {}, ["moderation"]),
    ({"stream": True}, {}, []),
    ({"stream": True, "partial_images": 0}, {}, []),
    ({"stream": True, "partial_images": 3}, {"preview": True}, []),
    ({"partial_images": 3}, {}, ["partial_images"]),
    ({"stream": False, "partial_images": 0}, {}, []),
    ({"stream": True, "response_format": "url"}, {}, ["response_format"]),
    ({"stream": True, "response_format": "b64_json"}, {}, []),
    ({"user": "u-1"}, {"user": "u-1"}, []),
    ({"safety_identifier": "s-1"}, {"user": "s-1"}, []),
    ({"safety_identifier": "s-1", "user": "u-1"}, {"user": "s-1"}, ["user"]),
    ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}, []),
    ({"seed": 0}, {"seed": 0}, []),
    ({"seed": 2**31 - 1}, {"seed": 2**31 - 1}, []),
    ({"seed": -1}, {}, []),
    ({"steps": 7}, {"steps": 7}, []),
    ({"num_inference_steps": 8}, {"steps": 8, "called": {"steps": "num_inference_steps"}}, []),
    ({"num_inference_steps": 8, "steps": 7}, {"steps": 7}, ["num_inference_steps"]),
    ({"guidance": 0}, {"guidance": 0.0}, []),
    ({"guidance_scale": 7.5}, {"guidance": 7.5, "called": SCALE}, []),
    ({"true_cfg_scale": 2.5}, {"guidance": 2.5, "called": {"guidance": "true_cfg_scale"}}, []),
    ({"true_cfg_scale": 2, "guidance_scale": 3}, {"guidance": 3, "called": SCALE},
     ["true_cfg_scale"]),
    ({"true_cfg_scale": 2, "guidance": 4}, {"guidance": 4.0}, ["true_cfg_scale"]),
    ({"guidance_scale": 3, "guidance": 4}, {"guidance": 4.0}, ["guidance_scale"]),
    ({"style_preset": "anime"}, {"style_preset": "anime"}, []),
    ({"lora_strength": 30}, {"lora_strength": 30}, []),
    ({"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9"}, []),
    ({"resolution": "2k"}, {"resolution": "2K"}, []),
    ({"strict": True}, {"strict": True}, []),
    ({"frame_count": 3}, {}, ["frame_count"]),
]  # fmt: skip
ONLY_GENERATE: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"style": "vivid"}, {}, ["style"]),
    ({"style": "natural"}, {}, ["style"]),
    ({"style": "anime"}, {"style": "anime"}, []),
    ({"prompt": " \u00e4 <lora:x:1> "}, {"prompt": " \u00e4 <lora:x:1> "}, []),
]
ONLY_EDIT: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"input_fidelity": "high"}, {}, ["input_fidelity"]),
    ({"input_fidelity": "low"}, {}, ["input_fidelity"]),
    ({"strength": 0.25}, {"strength": 0.25}, []),
    ({"model": "gpt-image-1"}, {"model": "gpt-image-1", "own_mask": False}, []),
]
NOT_OF_VARIATIONS = ("background", "moderation", "stream", "partial_images")


def plain_draft(task: str, **fields: Any) -> Draft:
    common = {"dialect": "openai", "model": "sketch", "tags": True, "alpha_mask": True}
    return Draft(**common | {"task": task} | fields)


GENERATED = plain_draft("generate", prompt="a red circle")
EDITED = plain_draft("edit", prompt="a red circle", images=(PNG,), own_mask=True)
VARIED = plain_draft("edit", prompt="", images=(PNG,))


def check(draft: Draft, plain: Draft, meant: dict[str, Any], ignored: list[str]) -> None:
    for field in fields_of(Draft):
        if field.name != "ignored":
            wanted = meant.get(field.name, getattr(plain, field.name))
            assert getattr(draft, field.name) == wanted, field.name
    assert [notice.param for notice in draft.ignored] == ignored


@pytest.mark.parametrize(("asked", "meant", "ignored"), ACTS + ONLY_GENERATE)
def test_fields_of_generations(asked: dict[str, Any], meant: dict[str, Any], ignored: list[str]):
    easel = Easel()
    answer = generate({**SPOKEN, **asked}, easel)
    check(understood(answer, easel), GENERATED, meant, ignored)


def texts(body: dict[str, Any]) -> dict[str, str]:
    return {
        name: said if isinstance(said, str) else json.dumps(said) for name, said in body.items()
    }


@pytest.mark.parametrize(("asked", "meant", "ignored"), ACTS + ONLY_EDIT)
def test_fields_of_edits(asked: dict[str, Any], meant: dict[str, Any], ignored: list[str]):
    as_form, as_json = Easel(), Easel()
    form = edit(texts({**SPOKEN, **asked}), as_form)
    check(understood(form, as_form), EDITED, meant, ignored)
    send("/images/edits", as_json, json={**EDIT, "model": "sketch", **asked})
    assert as_json.drafts == as_form.drafts


@pytest.mark.parametrize(
    ("asked", "meant", "ignored"),
    [case for case in ACTS if not {*case[0]} & {*NOT_OF_VARIATIONS, "safety_identifier"}],
)
def test_fields_of_variations(asked: dict[str, Any], meant: dict[str, Any], ignored: list[str]):
    easel = Easel()
    answer = edit(texts({"model": "sketch", **asked}), easel, to="variations")
    check(understood(answer, easel), VARIED, meant, ignored)


@pytest.mark.parametrize("name", [*NOT_OF_VARIATIONS, "prompt"])
def test_variations_take_less_and_say_so(name: str):
    easel = Easel()
    answer = edit({"model": "sketch", name: "1"}, easel, to="variations")
    assert [notice.param for notice in understood(answer, easel).ignored] == [name]


def test_null_is_the_same_as_absent():
    for path, shape, body in (
        ("generations", openai_shapes.Generate, SPOKEN),
        ("edits", openai_shapes.EditJson, {**EDIT, "model": "sketch"}),
    ):
        optional = shape.model_fields.keys() - body.keys()
        said, unsaid = Easel(), Easel()
        send(f"/images/{path}", said, json={**body, **dict.fromkeys(optional)})
        send(f"/images/{path}", unsaid, json=body)
        assert said.drafts == unsaid.drafts != []


def test_what_was_left_empty_in_a_form_was_not_said():
    easel = Easel()
    empty = dict.fromkeys(openai_shapes.Edit.model_fields.keys() - SPOKEN.keys(), "")
    edit({**SPOKEN, **empty}, easel)
    assert easel.drafts == [EDITED]


@pytest.mark.parametrize("unsaid", [{}, {"model": None}, {"model": ""}])
def test_without_a_model_it_is_the_first_that_can_do_it(unsaid: dict[str, Any]):
    for path, body, model in (
        ("generations", ASK, "blind"),
        ("edits", EDIT, "maskless"),
        ("edits", {**EDIT, "mask": {"image_url": URL}}, "sketch"),
    ):
        easel = Easel()
        send(f"/images/{path}", easel, json={**body, **unsaid})
        assert easel.drafts[0].model == model
        assert easel.expected == [model]


@pytest.mark.parametrize(
    ("files", "images", "mask"),
    [
        ([("image", PNG)], (PNG,), None),
        ([("image[]", PNG)], (PNG,), None),
        ([("image[]", PNG), ("image[]", PNG + b"2")], (PNG, PNG + b"2"), None),
        ([("image", PNG), ("image", PNG + b"2")], (PNG, PNG + b"2"), None),
        ([("image", PNG), ("mask", PNG + b"m")], (PNG,), PNG + b"m"),
        ([("image[]", PNG)] * 16, (PNG,) * 16, None),
    ],
)
def test_files_of_forms(files: Any, images: tuple[bytes, ...], mask: bytes | None):
    easel = Easel()
    draft = understood(edit(SPOKEN, easel, files=files), easel)
    assert (draft.images, draft.mask) == (images, mask)


def test_images_of_json():
    easel = Easel()
    address = {"image_url": "https://example.test/a.png", "file_id": None}
    body = {**EDIT, "images": [address, {"image_url": URL}], "mask": address}
    draft = understood(send("/images/edits", easel, json=body), easel)
    assert (draft.images, draft.mask) == ((PNG, PNG), PNG)


def test_unknown_fields_are_named_but_not_all_of_many():
    easel = Easel()
    draft = understood(generate({**ASK, **{f"key{i}": i for i in range(25)}}, easel), easel)
    assert [notice.param for notice in draft.ignored] == [f"key{i}" for i in range(20)] + [""]
    assert draft.ignored[-1].message.startswith("5 more")


def test_unknown_fields_are_named_wherever_they_are():
    easel = Easel()
    image = {"image_url": URL, "detail": "low"}
    body = {**EDIT, "images": [image], "mask": image, "width": 9}
    draft = understood(send("/images/edits", easel, json=body), easel)
    names = [notice.param for notice in draft.ignored]
    assert names == ["width", "images[0].detail", "mask.detail"]


# -- Documents -----------------------------------------------------------------------------------


def test_every_field_is_documented_and_none_is_invented():
    text = Path(__file__).parents[3].joinpath("docs", "dialects.md").read_text("utf-8")
    section = text.split("\n## OpenAI\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.\[\]]+)` \|(.*)\|$", section, re.MULTILINE)
    shapes = {
        "g": openai_shapes.Generate,
        "e": openai_shapes.EditJson,
        "v": openai_shapes.Variation,
    }
    taken = {name: {*shape.model_fields} for name, shape in shapes.items()}
    taken["e"] |= {"image"} | {
        f"images[].{name}" for name in openai_shapes.ImageSource.model_fields
    }
    taken["v"] |= {"image"}
    assert len(rows) == len({name for name, _ in rows})
    for letter, names in taken.items():
        assert {name for name, row in rows if letter in row.split("|")[0].split()} == names
    warned = {param for case in ACTS + ONLY_GENERATE + ONLY_EDIT for param in case[2]}
    for name, row in rows:
        effect = row.split("|")[2].strip()
        first = effect.split(" ")[0].rstrip(":;,.")
        assert first in ("honoured", "refused", "warned"), (name, effect)
        assert ("warned" in effect) == (name in warned), name
