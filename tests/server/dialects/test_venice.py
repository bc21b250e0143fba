"""The Venice dialect against a scripted service: fields in, answers out, nothing dropped."""

import base64
import json
import re
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.dialects import venice_drafts, venice_shapes
from server.dialects.venice_drafts import generator_seed
from server.jobs.intake import Draft
from server.jobs.listing import RATIOS
from server.sizes import InputLimits
from tests.server.dialects.easel import B64, PNG, URL
from tests.server.dialects.venice_stand import (
    APP,
    ASK,
    BODIES,
    EDIT,
    FORMS,
    PAINTS,
    Easel,
    ask,
    form,
    send,
    told,
    understood,
    warned,
)

# -- Fields in ------------------------------------------------------------------------------------

LIMITS = InputLimits(min_side=64, min_pixels=65_536, max_pixels=33_177_600)
EDITS: dict[str, Any] = {"task": "edit", "images": (PNG,), "input_limits": LIMITS}
MEANS: dict[str, dict[str, Any]] = {
    "/image/edit": EDITS,
    "/image/multi-edit": EDITS,
    "/image/generate": {"task": "generate", "output_format": "webp", "seeds_below": 10**9},
    "/images/generations": {
        "task": "generate", "seeds_below": 10**9, "width": 1024, "height": 1024,
    },
}  # fmt: skip

Case = tuple[str, dict[str, Any], dict[str, Any]]
ACTS: list[Case] = [
    *[
        (path, asked, meant)
        for path in ("/image/edit", "/image/multi-edit")
        for asked, meant in (
            [
                ({}, {}),
                ({"aspect_ratio": "auto"}, {"aspect_ratio": None}),
                ({"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9"}),
                ({"resolution": "1K"}, {"resolution": "1K"}),
                ({"resolution": "2k"}, {"resolution": "2K", "output_format": "jpeg"}),
                ({"resolution": "4K"}, {"resolution": "4K", "output_format": "jpeg"}),
                ({"resolution": "4K", "output_format": "png"}, {"resolution": "4K"}),
                ({"output_format": "webp"}, {"output_format": "webp"}),
                ({"output_format": "jpg"}, {"output_format": "jpeg"}),
                ({"quality": "high"}, {"quality": "high"}),
                ({"safe_mode": False, "enhance_prompt": False}, {}),
                ({"disable_prompt_optimization_thinking": True}, {}),
                ({"modelId": "qwen-edit"}, {"model": "qwen-edit"}),
            ]
        )
    ],
    ("/image/edit", {"image": URL}, {}),
    ("/image/edit", {"model": "qwen-edit"}, {"model": "qwen-edit"}),
    ("/image/edit", {"model": "sketch", "modelId": "sketch"}, {}),
    ("/image/edit", {"anon_user_id": "u 1~"}, {"user": "u 1~"}),
    ("/image/multi-edit", {"images": [B64, URL]}, {"images": (PNG, PNG)}),
    ("/image/generate", {"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
    ("/image/generate", {"width": 640, "height": 1280}, {"width": 640, "height": 1280}),
    ("/image/generate", {"width": 640.0}, {"width": 640, "height": 1024}),
    ("/image/generate", {"height": 640}, {"width": 1024, "height": 640}),
    ("/image/generate", {"width": 64, "aspect_ratio": "3:2"}, {"width": 64, "aspect_ratio": "3:2"}),
    ("/image/generate", {"aspect_ratio": "21:9"}, {"aspect_ratio": "21:9"}),
    ("/image/generate", {"resolution": "2K"}, {"resolution": "2K"}),
    ("/image/generate", {"quality": "low"}, {"quality": "low"}),
    ("/image/generate", {"cfg_scale": 7.5}, {"guidance": 7.5}),
    ("/image/generate", {"cfg_scale": 20}, {"guidance": 20.0}),
    ("/image/generate", {"steps": 33}, {"steps": 33}),
    ("/image/generate", {"seed": 0}, {"seed": 0}),
    ("/image/generate", {"seed": 999_999_999}, {"seed": 999_999_999}),
    ("/image/generate", {"seed": -1}, {"seed": -1}),
    ("/image/generate", {"seed": -2}, {"seed": generator_seed(-2)}),
    ("/image/generate", {"variants": 4}, {"n": 4}),
    ("/image/generate", {"variants": 4, "return_binary": False}, {"n": 4}),
    ("/image/generate", {"variants": 1, "return_binary": True}, {}),
    ("/image/generate", {"format": "png"}, {"output_format": "png"}),
    ("/image/generate", {"style_preset": "3D Model"}, {"style_preset": "3D Model"}),
    ("/image/generate", {"style_references": []}, {}),
    ("/image/generate", {"lora_strength": 30}, {"lora_strength": 30}),
    ("/image/generate", {"hide_watermark": True, "safe_mode": False}, {}),
    ("/image/generate", {"embed_exif_metadata": True}, {"embed_metadata": True}),
    ("/image/generate", {"anon_user_id": "u1"}, {"user": "u1"}),
    ("/images/generations", {"model": "QWEN-edit"}, {"model": "sketch"}),
    ("/images/generations", {"n": 1, "response_format": "url", "moderation": "low"}, {}),
    ("/images/generations", {"size": "auto", "background": "opaque"}, {}),
    ("/images/generations", {"size": "1792x1024"}, {"width": 1792, "height": 1024}),
    ("/images/generations", {"quality": "hd"}, {"quality": "high"}),
    ("/images/generations", {"quality": "standard"}, {"quality": "medium"}),
    ("/images/generations", {"quality": "auto"}, {"quality": None}),
    ("/images/generations", {"output_compression": 100}, {}),
    (
        "/images/generations", {"output_format": "jpeg", "output_compression": 30},
        {"output_format": "jpeg", "output_quality": 30},
    ),
    (
        "/images/generations", {"output_format": "webp", "output_compression": 0},
        {"output_format": "webp", "output_quality": 1},
    ),
    (
        "/images/generations", {"output_format": "jpg"},
        {"output_format": "jpeg", "output_quality": 100},
    ),
    ("/images/generations", {"user": "u1"}, {"user": "u1"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "asked", "meant"), ACTS)
def test_fields_act_and_nothing_else_changes(
    path: str, asked: dict[str, Any], meant: dict[str, Any]
):
    draft = understood(path, **asked)
    plain = Draft(dialect="venice", model="sketch", prompt="a red circle", **MEANS[path])
    for field in fields_of(Draft):
        wanted = meant.get(field.name, getattr(plain, field.name))
        assert getattr(draft, field.name) == wanted, field.name


SHAPES = {
    "/image/edit": venice_shapes.Edit,
    "/image/multi-edit": venice_shapes.MultiEdit,
    "/image/generate": venice_shapes.Generate,
    "/images/generations": venice_shapes.Generations,
    "/image/upscale": venice_shapes.Upscale,
    "/image/background-remove": venice_shapes.Cutout,
}


@pytest.mark.parametrize("path", PAINTS)
def test_null_is_the_same_as_absent(path: str):
    optional = SHAPES[path].model_fields.keys() - BODIES[path].keys()
    assert understood(path, **dict.fromkeys(optional)) == understood(path)


@pytest.mark.parametrize(("path", "asked", "_"), [case for case in ACTS if case[0] in FORMS])
def test_a_form_means_what_json_means(path: str, asked: dict[str, Any], _: Any):
    if "image" in asked or "images" in asked:
        return
    easel = Easel()
    assert form(path, easel, **asked).status_code == 200
    assert easel.drafts[0] == understood(path, **asked)


def test_several_files_of_a_form_keep_their_order():
    easel = Easel()
    files = [("images", ("a", PNG + b"1")), ("images[]", ("b", PNG + b"2"))]
    assert send("/image/multi-edit", easel, data={"prompt": "x"}, files=files).status_code == 200
    assert easel.drafts[0].images == (PNG + b"1", PNG + b"2")


def test_a_form_may_have_its_image_as_a_text():
    easel = Easel()
    one = send("/image/edit", easel, data=EDIT, files=[])
    assert one.status_code == 415  # it is no multipart form then
    parts = {name: (None, value) for name, value in EDIT.items()}
    assert send("/image/edit", easel, files=parts).status_code == 200
    assert easel.drafts[0].images == (PNG,)


@pytest.mark.parametrize("name", venice_drafts.NOT_YET)
def test_what_comes_later_is_warned_of(name: str):
    paths = [path for path in PAINTS if name in SHAPES[path].model_fields]
    assert paths
    for path in paths:
        assert name in warned(ask(path, **{name: True}))
        assert name not in warned(ask(path, **{name: False}))
        assert name not in warned(ask(path))


WARNS = [
    ("/image/edit", {"model": "sketch", "modelId": "x"}, "modelId"),
    ("/image/multi-edit", {"resolution": "8K"}, "resolution"),
    ("/image/generate", {"width": 63}, "width"),
    ("/images/generations", {"model": "gpt-9"}, "model"),
    ("/images/generations", {"background": "transparent"}, "background"),
    ("/images/generations", {"style": "vivid"}, "style"),
    ("/images/generations", {"moderation": "auto"}, "moderation"),
    ("/images/generations", {"output_compression": 50}, "output_compression"),
    ("/image/upscale", {"creativity": 0.01}, "creativity"),
    ("/image/upscale", {"enhance": "true"}, "enhance"),
    ("/image/upscale", {"enhanceCreativity": 0.5}, "enhanceCreativity"),
    ("/image/upscale", {"enhancePrompt": "gold"}, "enhancePrompt"),
    ("/image/upscale", {"replication": 0.3}, "replication"),
    ("/image/upscale", {"bogus": 1}, "bogus"),
]


@pytest.mark.parametrize(("path", "asked", "name"), WARNS)
def test_what_does_not_act_is_named(path: str, asked: dict[str, Any], name: str):
    assert name in warned(ask(path, **asked))
    assert name not in warned(ask(path))


@pytest.mark.parametrize("nothing", [False, "false"])
def test_what_is_switched_off_is_not_missed(nothing: Any):
    assert "enhance" not in warned(ask("/image/upscale", enhance=nothing))


def test_a_side_too_short_is_lengthened():
    assert understood("/image/generate", width=1, height=70).width == 64


def test_an_unknown_tier_does_not_choose_the_format():
    draft = understood("/image/multi-edit", resolution="2000")
    assert (draft.resolution, draft.output_format) == (None, "png")


def test_the_house_has_other_words_but_the_client_does_not_hear_them():
    assert warned(ask("/image/generate")) == {"cfg_scale": "asked for 50, used 10"}


@given(st.integers(-999_999_999, -2))
def test_a_negative_seed_stands_for_one_that_all_variants_can_be_asked_by(seed: int):
    assert generator_seed(seed) == generator_seed(seed)
    assert generator_seed(seed) != generator_seed(seed - 1)
    assert 0 <= generator_seed(seed) <= 999_999_999 - 3


# -- Answers --------------------------------------------------------------------------------------

SAYS = {
    "x-venice-model-id": "sketch",
    "x-venice-model-name": "sketch",
    "x-venice-is-blurred": "false",
    "x-venice-is-content-violation": "false",
    "x-limner-seed": "0",
    "x-limner-id": "img-1",
}


@pytest.mark.parametrize("path", ["/image/edit", "/image/multi-edit"])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_edits_answer_with_the_picture(path: str, kind: str):
    for answer in (ask(path, output_format=kind), form(path, output_format=kind)):
        assert answer.content == b"image0"
        assert answer.headers["content-type"] == f"image/{kind}"
        assert SAYS.items() <= dict(answer.headers).items()
        assert re.fullmatch(r"\d{4}-.*\+00:00", answer.headers["x-venice-timestamp"])


def test_a_generated_answer():
    answer = ask("/image/generate", variants=2, seed=7, format="png")
    body = answer.json()
    venice_shapes.Generated.model_validate(body)
    asked = {**ASK, "variants": 2, "seed": 7, "format": "png"}
    assert body == {
        "id": "generate-image-img-1",
        "images": [base64.b64encode(b"image%d" % i).decode() for i in range(2)],
        "timing": {
            "inferenceDuration": 1000.0,
            "inferencePreprocessingTime": 99.9,
            "inferenceQueueTime": 0.1,
            "total": 1100.0,
        },
        "request": {"success": True, "data": asked},
    }
    assert SAYS.items() - {("x-limner-seed", "0")} <= dict(answer.headers).items()
    assert answer.headers["x-limner-seed"] == "7, 8"
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_negative_seed_is_returned_as_given():
    answer = ask("/image/generate", variants=2, seed=-7)
    assert answer.json()["request"]["data"]["seed"] == -7
    assert answer.headers["x-limner-seed"] == f"-7, {generator_seed(-7) + 1}"


def test_a_drawn_seed_is_returned():
    assert ask("/image/generate").json()["request"]["data"]["seed"] == 0


def test_a_binary_answer():
    answer = ask("/image/generate", return_binary=True, seed=-9)
    assert answer.content == b"image0"
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-limner-seed"] == "-9"


def test_what_is_missing_of_several_is_named():
    answer = ask("/image/generate", Easel(misses=(0, 2)), variants=3)
    assert len(answer.json()["images"]) == 1
    assert "variants" in warned(answer)
    assert "image 1 is missing: too large" in answer.headers["x-limner-warnings"]
    assert told(ask("/image/generate", Easel(misses=(0,))), 503)["error"].startswith("too large")


def test_answers_in_openai_words():
    plain = ask("/images/generations").json()
    assert plain == {
        "created": 1_700_000_000,
        "data": [{"b64_json": base64.b64encode(b"image0").decode()}],
    }
    [datum] = ask("/images/generations", response_format="url").json()["data"]
    assert datum == {"url": f"data:image/png;base64,{base64.b64encode(b'image0').decode()}"}


@pytest.mark.parametrize("scale", [2, 3.5, 4, None])
def test_an_enlarged_picture(scale: float | None):
    for send_it in (ask, form):
        easel = Easel()
        said = {} if scale is None else {"scale": scale}
        answer = send_it("/image/upscale", easel, **said)
        assert answer.content == b"large"
        assert answer.headers["content-type"] == "image/png"
        assert warned(answer) == {"scale": "less"}
        assert answer.headers["x-limner-id"] == "img-1"
        assert answer.headers["server-timing"] == "total;dur=500.0"
        assert answer.headers["x-venice-is-blurred"] == "false"
        assert answer.headers["x-venice-timestamp"]
        [wish] = easel.wishes
        assert (wish.image, wish.scale, wish.max_pixels) == (PNG, scale or 2.0, 16_777_216)


@pytest.mark.parametrize("said", [{"image": B64}, {"image": None, "image_url": URL}])
def test_backgrounds_cannot_be_removed_yet(said: dict[str, Any]):
    body = told(ask("/image/background-remove", **said), 503)
    assert "not available" in body["error"]


# -- Lists ----------------------------------------------------------------------------------------


def test_styles_are_those_of_the_configuration():
    listed = send("/image/styles", method="GET").json()
    assert listed == {"object": "list", "data": ["Anime", "3D Model"]}


@pytest.mark.parametrize("kind", [*get_args(venice_shapes.Kind), None])
def test_models_of_every_documented_type(kind: str | None):
    query = f"?type={kind}" if kind else ""
    listed = send(f"/models{query}", method="GET").json()
    assert (listed["object"], listed["type"]) == ("list", kind or "all")
    assert len(listed["data"]) == (kind in ("image", "inpaint", "all", None))
    for path, found in (
        ("traits", {"default": "sketch", "fastest": "sketch", "highest_quality": "sketch"}),
        ("compatibility_mapping", {"qwen-edit": "sketch"}),
    ):
        answer = send(f"/models/{path}{query}", method="GET").json()
        data = found if listed["data"] else {}
        assert answer == {"object": "list", "type": kind or "all", "data": data}


@pytest.mark.parametrize("path", ["/models", "/models/traits", "/models/compatibility_mapping"])
def test_a_type_that_there_is_not(path: str):
    body = told(send(f"{path}?type=smells", method="GET"))
    assert at_type(body) == ["type"]


def at_type(body: dict[str, Any]) -> list[str]:
    return [name for name in body["details"] if name != "_errors"]


def test_the_shapes_of_pictures_are_those_that_models_list():
    assert get_args(venice_shapes.Ratio) == RATIOS
    assert get_args(venice_shapes.Ratios) == ("auto", *RATIOS)


# -- Documents ------------------------------------------------------------------------------------


def test_openapi():
    page = send("/openapi.json", method="GET").json()
    lists = {"/image/styles", "/models", "/models/traits", "/models/compatibility_mapping"}
    assert page["paths"].keys() == BODIES.keys() | lists
    for path, shape in SHAPES.items():
        operation = page["paths"][path]["post"]
        content = operation["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        assert schema["properties"].keys() == shape.model_fields.keys()
        assert ("multipart/form-data" in content) == (path in FORMS)
        assert "422" in operation["responses"]
    assert "HTTPValidationError" not in page["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(page))
    assert set(references) <= page["components"]["schemas"].keys()


def test_the_docs_page_exists():
    assert "swagger" in send("/docs", method="GET").text
    assert APP.title == "limner: Venice dialect"


COLUMNS = {
    "edit": "/image/edit",
    "multi": "/image/multi-edit",
    "generate": "/image/generate",
    "generations": "/images/generations",
    "upscale": "/image/upscale",
    "background": "/image/background-remove",
}


def test_every_field_is_documented_and_none_is_invented():
    text = Path(__file__).parents[3].joinpath("docs", "dialects.md").read_text("utf-8")
    section = text.split("\n## Venice\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| .*? \| (.*)\|$", section, re.MULTILINE)
    documented = {(name, each) for name, where, _ in rows for each in where.split()}
    assert documented == {
        (name, short) for short, path in COLUMNS.items() for name in SHAPES[path].model_fields
    }
    for name, _, effect in rows:
        assert re.match(r"(honoured|refused|warned)\b", effect), name
    warns = {*venice_drafts.NOT_YET, *venice_drafts.NOT_PAINTED, "style"}
    assert {name for name, _, effect in rows if effect.startswith("warned")} == warns
    said = {name: effect for name, _, effect in rows}
    for _, _, name in WARNS:
        assert name == "bogus" or "warn" in said[name], name
    elsewhere = {"negative_prompt", "lora_strength", "images", "cfg_scale", "steps", "scale"}
    shown = {name for _, _, name in WARNS} | {*venice_drafts.NOT_YET} | elsewhere
    assert {name for name, effect in said.items() if "warn" in effect} <= shown
    refused = {"style_references", "inpaint"}
    assert {name for name, effect in said.items() if effect.startswith("refused")} == refused
