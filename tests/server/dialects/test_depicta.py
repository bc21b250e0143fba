"""The Depicta dialect against a painter by script: fields in, answers out, nothing dropped."""

import hashlib
import json
import re
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import pytest

from server import errors
from server.dialects import depicta_answers, depicta_shapes
from server.errors import Refusal
from server.jobs.intake import Draft
from tests.server.dialects.easel import PNG, URL, every_refusal
from tests.server.dialects.gallery import (
    BODIES,
    COMBINE,
    EDIT,
    GENERATE,
    PROMPT,
    Exhibition,
    told,
)

HAT = {"url": URL, "description": "a hat"}


@pytest.fixture
def place() -> Exhibition:
    return Exhibition()


# -- Fields in ------------------------------------------------------------------------------------

ACTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": " \u00e4 "}, {"prompt": " \u00e4 "}),
    ({"model": "sketch"}, {"model": "sketch"}),
    ({"model": "FLUX-pro"}, {"model": "sketch"}),
    ({"aspect_ratio": "21:9"}, {"aspect_ratio": "21:9"}),
    ({"image_size": "2k"}, {"resolution": "2K"}),
    ({"strictness": "liberal"}, {}),
    ({"n": 2}, {"n": 2}),
    ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
    ({"seed": 0}, {"seed": 0}),
    ({"seed": -1}, {"seed": None}),
    ({"steps": 1000.0}, {"steps": 1000}),
    ({"guidance": 7.5}, {"guidance": 7.5}),
    ({"strength": 1}, {"strength": 1.0}),
    ({"strict": True}, {"strict": True}),
]


def plain(path: str) -> Draft:
    """What the smallest body means."""
    images = {GENERATE: (), EDIT: (PNG,), COMBINE: (PNG, PNG)}[path]
    return Draft(
        dialect="depicta",
        task="edit" if images else "generate",
        model={GENERATE: "paints", EDIT: "mends", COMBINE: "sketch"}[path],
        prompt="a red circle",
        images=images,
        also=("jpeg", "webp"),
    )


def expect(draft: Draft, base: Draft, **meant: Any) -> None:
    for field in fields_of(Draft):
        wanted = meant.get(field.name, getattr(base, field.name))
        assert getattr(draft, field.name) == wanted, field.name


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("asked", "meant"), ACTS)
def test_fields_act_and_nothing_else_changes(
    place: Exhibition, path: str, asked: dict[str, Any], meant: dict[str, Any]
):
    expect(place.understood(path, **asked), plain(path), **meant)


@pytest.mark.parametrize("path", BODIES)
def test_null_is_the_same_as_absent(place: Exhibition, path: str):
    optional = depicta_shapes.Generate.model_fields.keys() - {"prompt"}
    expect(place.understood(path, **dict.fromkeys(optional)), plain(path))


@pytest.mark.parametrize("path", BODIES)
def test_references_join_the_prompt_and_the_images_in_order(place: Exhibition, path: str):
    coat = {"url": URL.replace(";base64,", ";base64,iVBO"), "description": " "}
    references = [HAT, coat, HAT]
    draft = place.understood(path, model="sketch", reference_images=references)
    assert draft.prompt == "a red circle, a hat, a hat"
    own = plain(path).images
    assert len(draft.images) == len(own) + 3
    assert draft.images[: len(own) + 1] == (*own, PNG)
    assert draft.images[-2] != PNG
    assert draft.task == "edit"


def test_what_starts_from_nothing_has_its_own_size_whatever_it_looks_at(place: Exhibition):
    def sizes(**more: Any) -> tuple[Any, ...]:
        more = {"model": "sketch", "reference_images": [HAT]} | more
        draft = place.understood(GENERATE, **more)
        return draft.width, draft.height, draft.aspect_ratio, draft.resolution

    assert sizes() == (64, 64, None, None)
    assert sizes(image_size="1K") == (1024, 1024, None, None)
    assert sizes(image_size="1K", aspect_ratio="16:9") == (1360, 768, None, None)
    assert sizes(aspect_ratio="1:1") == (64, 64, None, None)
    assert sizes(reference_images=[], aspect_ratio="1:1") == (None, None, "1:1", None)


def test_a_model_that_only_paints_is_not_shown_references_in_vain(place: Exhibition):
    draft = place.understood(GENERATE, model="paints", reference_images=[HAT])
    assert (draft.task, draft.width) == ("generate", None)  # and intake names the images


def test_the_first_model_that_can_do_it_is_taken(place: Exhibition):
    assert place.understood(GENERATE).model == "paints"
    assert place.understood(GENERATE, reference_images=[HAT]).model == "mends"
    assert place.understood(EDIT).model == "mends"
    assert place.understood(COMBINE).model == "sketch"


def test_more_than_a_model_combines_is_refused(place: Exhibition):
    details = told(place.asked(COMBINE, input_image_urls=[URL] * 4), 422, "validation_error")
    assert "1 at most" in details["input_image_urls"]  # the first that edits, if none can do it
    details = told(place.asked(COMBINE, model="mends"), 422, "validation_error")
    assert details == {"input_image_urls": "mends takes 1 at most"}
    files = [("images", PNG)] * 4
    answer = place.send(COMBINE, files=files, data=PROMPT | {"model": "sketch"})
    assert told(answer, 422, "validation_error") == {"images": "sketch takes 3 at most"}


FORM = PROMPT | {
    "model": "sketch", "aspect_ratio": "4:5", "image_size": "1K", "strictness": "liberal",
    "n": "2", "seed": "7", "steps": "9", "guidance": "2.5", "strength": "0.5", "strict": "true",
    "negative_prompt": "blur", "reference_images": json.dumps([HAT]),
}  # fmt: skip


@pytest.mark.parametrize(("path", "name", "count"), [(EDIT, "image", 1), (COMBINE, "images", 2)])
@pytest.mark.parametrize("brackets", ["", "[]"])
def test_a_form_means_the_same(place: Exhibition, path: str, name: str, count: int, brackets: str):
    files = [(name + brackets, ("a.png", PNG, "image/png"))] * count
    answer = place.send(path, files=files, data=FORM)
    assert answer.status_code == 200, answer.text
    same = {**FORM, "n": 2, "seed": 7, "steps": 9, "guidance": 2.5, "strength": 0.5}
    same |= {"strict": True, "reference_images": [HAT]}
    expect(place.understood(path, **same), place.gallery.drafts[0])


def test_references_of_a_form_come_one_by_one_too(place: Exhibition):
    data = PROMPT | {"reference_images": [json.dumps(HAT), json.dumps(HAT)]}
    answer = place.send(EDIT, files={"image": PNG}, data=data)
    assert answer.status_code == 200
    assert place.gallery.drafts[0].images == (PNG, PNG, PNG)


@pytest.mark.parametrize(
    ("path", "files", "data", "field"),
    [
        (EDIT, [("images", PNG)], PROMPT, "image"),
        (EDIT, [("image", PNG)] * 2, PROMPT, "image"),
        (EDIT, [("image", b"")], PROMPT, "image"),
        (EDIT, [("image", PNG)], {}, "prompt"),
        (EDIT, [("image", PNG)], PROMPT | {"n": "many"}, "n"),
        (EDIT, [("image", PNG), ("mask", PNG)], PROMPT, "mask"),
        (EDIT, [("image", PNG)], PROMPT | {"reference_images": "a hat"}, "reference_images"),
        (EDIT, [("image", PNG)], PROMPT | {"reference_images": "[1]"}, "reference_images[0]"),
        (COMBINE, [("images", PNG)], PROMPT, "images"),
        (COMBINE, [("images", PNG)] * 6, PROMPT, "images"),
        (COMBINE, [("image", PNG)] * 2, PROMPT, "images"),
    ],
)
def test_forms_that_are_wrong(
    place: Exhibition, path: str, files: list[Any], data: dict[str, str], field: str
):
    assert field in told(place.send(path, files=files, data=data), 422, "validation_error")
    assert not place.gallery.drafts


def test_only_images_come_in_forms(place: Exhibition):
    answer = place.send(GENERATE, files={"image": PNG}, data=PROMPT)
    told(answer, 415, "unsupported_media_type")


def test_what_does_not_act_is_named(place: Exhibition):
    hat = HAT | {"weight": 2}
    answer = place.asked(EDIT, strictness="normal", bogus=1, reference_images=[hat])
    warnings = json.loads(answer.headers["x-limner-warnings"])
    named = {warning["param"] for warning in warnings}
    assert named == {"strictness", "bogus", "reference_images[0].weight", "guidance"}
    many = {f"key{i}": i for i in range(25)}
    place.asked(GENERATE, **many)
    assert len(place.gallery.drafts[-1].ignored) == 21


def test_what_is_unknown_is_named_as_it_was_sent(place: Exhibition):
    answer = place.asked(EDIT, width=512, resolution="2K", images=[URL])
    warnings = json.loads(answer.headers["x-limner-warnings"])
    assert [each["param"] for each in warnings] == ["width", "resolution", "images", "guidance"]


# -- Answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
def test_a_whole_answer(place: Exhibition, path: str):
    answer = place.asked(path)
    body = answer.json()
    depicta_shapes.Generation.model_validate(body)
    name = body["id"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-\w{12}", name)
    assert answer.headers["x-depicta-job-id"] == name
    assert answer.headers["x-limner-seed"] == "5"
    assert answer.headers["server-timing"] == "queue;dur=100.0, paint;dur=200.0"
    assert body["formats"].keys() == {"png", "jpeg", "webp"}
    for kind, variant in body["formats"].items():
        data = f"{kind} 0".encode()
        assert place.file(variant["url"]) == data
        assert variant["hash"] == hashlib.sha256(data).hexdigest()
        assert (variant["size_bytes"], variant["format"]) == (len(data), kind)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", variant["expires_at"])
        assert variant["url"].startswith("http://test/files/")
    png = body["formats"]["png"]
    assert {key: value for key, value in body.items() if key not in ("formats", "id")} == {
        "ai_generated": True,
        "balance_eur": "0.000000",
        "cost_eur": "0.000000",
        "image_hash": png["hash"],
        "image_url": png["url"],
        "model": place.gallery.drafts[0].model,
    }


def test_several_images(place: Exhibition):
    body = place.asked(GENERATE, n=2).json()
    assert [place.file(url) for url in body["image_urls"]] == [b"png 0", b"png 1"]
    hashes = [hashlib.sha256(b"png %d" % i).hexdigest() for i in (0, 1)]
    assert body["image_hashes"] == hashes
    assert body["image_url"] == body["image_urls"][0]


def test_some_are_missed(place: Exhibition):
    place.gallery.misses = (0,)
    answer = place.asked(GENERATE, n=2)
    assert place.file(answer.json()["image_url"]) == b"png 1"
    assert {"param": "n", "message": "one is missing: too large"} in json.loads(
        answer.headers["x-limner-warnings"]
    )


def test_all_are_missed(place: Exhibition):
    place.gallery.misses = (0,)
    answer = place.asked(GENERATE)
    told(answer, 503, "insufficient_memory")
    assert answer.headers["retry-after"] == "3"
    name = answer.headers["x-depicta-job-id"]
    job = place.get(f"/jobs/{name}").json()
    assert (job["status"], job["error"]) == ("failed", "insufficient_memory")
    assert "result" not in job


def test_files_that_cannot_be_kept(place: Exhibition):
    place.front.artifacts._quota = 3
    answer = place.asked(GENERATE)
    told(answer, 503, "storage_failed")
    job = place.get(f"/jobs/{answer.headers['x-depicta-job-id']}").json()
    assert (job["status"], job["error"]) == ("failed", "storage_failed")


STATUS = {
    **dict.fromkeys(every_refusal(errors.BadRequest), 422),
    errors.UnknownModel: 422,
    errors.Expired: 422,
    errors.WorkerDied: 502,
}


@pytest.mark.parametrize("kind", every_refusal())
def test_every_code_has_its_body(place: Exhibition, kind: type[Refusal]):
    place.gallery.raises = kind("x" * 5000 + "\u00e9", param="images[0]", retry_after=9)
    status = STATUS.get(kind, kind.status)
    code = kind.code
    if status == 422:
        code = "model_not_capable" if kind is errors.Unprocessable else "validation_error"
    answer = place.asked(EDIT)
    details = told(answer, status, code)
    assert all(name == "input_image_url" for name in details)
    assert "xxx" in answer.text
    assert answer.headers["retry-after"] == "9"


@pytest.mark.parametrize("kind", every_refusal())
def test_every_code_has_its_body_without_a_field(place: Exhibition, kind: type[Refusal]):
    place.gallery.raises = kind("no field is at fault")
    answer = place.asked(EDIT)
    assert answer.json()["message"] == "no field is at fault"
    assert "details" not in answer.json()
    status, code = depicta_answers.told(place.gallery.raises)
    told(answer, status, code)
    assert status == (502 if kind is errors.WorkerDied else kind.status)


def test_the_house_has_other_words_but_the_client_does_not_hear_them(place: Exhibition):
    for ours, theirs in (
        ("resolution", "image_size"), ("width", "image_size"), ("images", "input_image_url"),
        ("images[0]", "input_image_url"), ("images[1]", "reference_images[0].url"),
    ):  # fmt: skip
        place.gallery.raises = errors.BadRequest("no", param=ours)
        answer = place.asked(EDIT, reference_images=[HAT])
        assert told(answer, 422, "validation_error") == {theirs: "no"}


def test_a_bug_is_a_generic_500(place: Exhibition, caplog: pytest.LogCaptureFixture):
    place.gallery.raises = RuntimeError("secret")
    answer = place.asked(GENERATE)
    told(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_what_is_not_there(place: Exhibition):
    for path in ("/generate/story", "/generate/graphic", "/process/crop", "/skill-version"):
        told(place.send(path, json={}), 404, "not_found")
    told(place.get(GENERATE), 405, "method_not_allowed")


# -- Documents ------------------------------------------------------------------------------------


def test_openapi(place: Exhibition):
    page = place.get("/openapi.json").json()
    assert page["paths"].keys() == {
        GENERATE, EDIT, COMBINE, "/upload", "/models", "/jobs", "/jobs/{id}", "/account/profile",
    }  # fmt: skip
    shapes = {
        GENERATE: depicta_shapes.Generate, EDIT: depicta_shapes.Edit,
        COMBINE: depicta_shapes.Combine,
    }  # fmt: skip
    for path, shape in shapes.items():
        operation = page["paths"][path]["post"]
        content = operation["requestBody"]["content"]
        known = content["application/json"]["schema"]["properties"]
        assert known.keys() == shape.model_fields.keys()
        assert ("multipart/form-data" in content) == (path != GENERATE)
        assert "X-Depicta-Job-Id" in operation["responses"]["200"]["headers"]
        assert {"409", "413", "422", "502"} <= operation["responses"].keys()
    assert "HTTPValidationError" not in page["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(page))
    assert set(references) <= page["components"]["schemas"].keys()


def test_every_field_is_documented_and_none_is_invented():
    text = Path(__file__).parents[3].joinpath("docs", "dialects.md").read_text("utf-8")
    section = text.split("\n## Depicta\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.\[\]]+)` \|(.*)\|$", section, re.MULTILINE)
    wanted = {*depicta_shapes.Edit.model_fields, *depicta_shapes.Combine.model_fields}
    wanted |= {f"reference_images[].{name}" for name in depicta_shapes.Reference.model_fields}
    wanted |= {"image", "images"}
    assert {name for name, _ in rows} == wanted
    assert len(rows) == len(wanted)
    of_form = {"e": {"image"}, "c": {"images"}}
    for letter, shape in zip("gec", SHAPES, strict=True):
        there = {name for name, row in rows if letter in row.split("|")[0].split()}
        named = {*shape.model_fields} | of_form.get(letter, set())
        assert {name for name in there if "." not in name} == named
    for name, row in rows:
        effect = row.split("|")[2].strip()
        assert effect.split(" ")[0].rstrip(":;,.") in ("honoured", "refused"), (name, effect)
        assert ("warned" in effect) == (name in WARNS), name


SHAPES = (depicta_shapes.Generate, depicta_shapes.Edit, depicta_shapes.Combine)
WARNS: dict[str, Any] = {"strictness": "normal"}


@pytest.mark.parametrize("path", BODIES)
def test_only_what_is_documented_so_is_warned_of(place: Exhibition, path: str):
    for name, value in WARNS.items():
        answer = place.asked(path, **{name: value})
        assert name in [each["param"] for each in json.loads(answer.headers["x-limner-warnings"])]
    whole = {name: value for asked, _ in ACTS for name, value in asked.items()} | {"n": 1}
    place.asked(path, **whole)
    assert not place.gallery.drafts[-1].ignored
