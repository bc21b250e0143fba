"""Venice's clients against the real server and the shipped model, on the paths of their service."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

PROMPT = "a red circle on a blue background"
EDIT, GENERATE = "/api/v1/image/edit", "/api/v1/image/generate"
MULTI, UPSCALE = "/api/v1/image/multi-edit", "/api/v1/image/upscale"


@pytest.fixture(scope="module")
def sketch(serving) -> Iterator[Any]:
    with serving() as server:
        yield server


def file(width: int, height: int, colour: tuple[int, ...] = (20, 20, 200), kind="PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, kind)
    return out.getvalue()


def noise(width: int, height: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(server: Any, path: str, files: list[tuple[str, bytes]], **texts: str) -> httpx2.Response:
    parts = [(name, ("image.png", data)) for name, data in files]
    with server.client() as client:
        return client.post(path, data=texts, files=parts)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def picture(answer: httpx2.Response, kind: str) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"image/{kind}"
    image = opened(answer.content)
    assert image.format == kind.upper()
    return image


def warned(answer: httpx2.Response) -> set[str]:
    said = json.loads(answer.headers.get("x-limner-warnings", "[]"))
    return {each["param"] for each in said}


def blue(image: Image.Image) -> float:
    """The share of pixels in which blue clearly beats the other channels."""
    p = np.asarray(image.convert("RGB")).astype(int).reshape(-1, 3)
    return float((p[:, 2] > p[:, :2].max(axis=1) + 40).mean())


def test_an_edit_as_json_and_as_a_form(sketch) -> None:
    base = file(300, 260)
    wish = {"prompt": "a blue background", "model": "qwen-edit"}
    by_json = sketch.post(EDIT, **wish, image=text(base))
    by_form = form(sketch, EDIT, [("image", base)], **wish)
    for answer in (by_json, by_form):
        image = picture(answer, "png")
        assert image.size == (300, 260)
        assert blue(image) > 0.3
        assert answer.headers["x-venice-model-id"] == "sketch"
        assert answer.headers["x-venice-is-blurred"] == "false"
        assert answer.headers["x-venice-is-content-violation"] == "false"
        assert 0 <= int(answer.headers["x-limner-seed"]) < 2**31


def test_a_tier_makes_a_jpeg_of_its_size(sketch) -> None:
    answer = form(sketch, EDIT, [("image", file(512, 256))], prompt=PROMPT, resolution="2K")
    width, height = picture(answer, "jpeg").size
    assert abs(width * height / 2048**2 - 1) < 0.02
    assert abs(width / height - 2) < 0.02
    wide = form(
        sketch, EDIT, [("image", file(512, 512))], prompt=PROMPT, aspect_ratio="16:9",
        output_format="webp", safe_mode="true",
    )  # fmt: skip
    width, height = picture(wide, "webp").size
    assert abs(width / height - 16 / 9) < 0.05
    assert {"safe_mode", "image"} <= warned(wide)


def test_several_images_of_which_the_model_takes_one(sketch) -> None:
    answer = form(
        sketch, MULTI, [("images", file(256, 256)), ("images", file(300, 300))], prompt=PROMPT
    )
    assert picture(answer, "png").size == (256, 256)
    assert "images" in warned(answer)
    by_json = sketch.post(MULTI, prompt=PROMPT, images=[text(file(256, 256))], resolution="9K")
    assert warned(by_json) >= {"resolution"}


def test_variants_and_their_seeds(sketch) -> None:
    wish = {"model": "venice-sd35", "prompt": PROMPT, "steps": 4, "cfg_scale": 5, "format": "png"}
    answer = sketch.post(GENERATE, **wish, variants=2, seed=-77)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["id"].startswith("generate-image-")
    assert body["timing"]["total"] >= body["timing"]["inferenceDuration"] > 0
    assert body["request"]["data"]["seed"] == -77
    both = [opened(base64.b64decode(data)) for data in body["images"]]
    assert [image.size for image in both] == [(512, 512)] * 2
    seeds = [int(seed) for seed in answer.headers["x-limner-seed"].split(",")]
    assert seeds[0] == -77
    for seed, together in zip(seeds, both, strict=True):
        alone = picture(sketch.post(GENERATE, **wish, seed=seed, return_binary=True), "png")
        apart = np.asarray(alone, int) - np.asarray(together, int)
        assert np.abs(apart).max() <= 1


def test_the_default_is_webp_and_a_drawn_seed_can_be_asked_for_again(sketch) -> None:
    wish = {"model": "sketch", "prompt": PROMPT, "steps": 3, "return_binary": True}
    first = sketch.post(GENERATE, **wish)
    again = sketch.post(GENERATE, **wish, seed=int(first.headers["x-limner-seed"]))
    one, two = (np.asarray(picture(answer, "webp"), int) for answer in (first, again))
    assert np.abs(one - two).mean() < 1


def test_openais_words_under_venices_prefix(sketch) -> None:
    path = "/venice/api/v1/images/generations"
    answer = sketch.post(path, prompt=PROMPT, model="nobody", size="256x256", response_format="url")
    [datum] = answer.json()["data"]
    assert datum["url"].startswith("data:image/png;base64,")
    assert opened(base64.b64decode(datum["url"].partition(",")[2])).size == (256, 256)
    assert "model" in warned(answer)


def test_an_enlarged_picture_has_the_same_colours(sketch) -> None:
    base = file(300, 200, (200, 30, 90))
    for answer in (
        sketch.post(UPSCALE, image=text(base), scale=3),
        form(sketch, UPSCALE, [("image", base)], scale="3"),
    ):
        image = picture(answer, "png")
        assert image.size == (900, 600)
        assert (np.asarray(image) == (200, 30, 90)).all()
        assert not warned(answer)
    answer = sketch.post(UPSCALE, image=text(base), creativity=0.01, replication=0.5)
    assert picture(answer, "png").size == (600, 400)
    assert warned(answer) == {"creativity", "replication"}


def test_a_large_picture_is_enlarged_to_the_limit_and_stalls_nobody(sketch) -> None:
    waits: list[float] = []
    done = threading.Event()

    def probe() -> None:
        with sketch.client() as client:
            while not done.is_set():
                began = time.perf_counter()
                assert client.get("/healthz").status_code == 200
                waits.append(time.perf_counter() - began)
                time.sleep(0.01)

    base = file(2000, 1500)
    prober = threading.Thread(target=probe)
    prober.start()
    began = time.perf_counter()
    try:
        answer = form(sketch, UPSCALE, [("image", base)], scale="4")
        took = time.perf_counter() - began
    finally:
        done.set()
        prober.join()
    width, height = picture(answer, "png").size
    assert 16_700_000 < width * height <= 16_777_216
    assert warned(answer) == {"scale"}
    assert max(waits) < took / 3  # on the event loop it would be nearly all of it


def test_backgrounds_and_what_else_there_is(sketch) -> None:
    answer = form(sketch, "/api/v1/image/background-remove", [("image", file(64, 64))])
    assert answer.status_code == 503
    assert answer.json().keys() == {"error"}
    with sketch.client() as client:
        styles = client.get("/api/v1/image/styles").json()
        assert "Anime" in styles["data"]
        inpaint = client.get("/api/v1/models?type=inpaint").json()
        assert [row["type"] for row in inpaint["data"]] == ["inpaint"] * 2  # both that ship
        assert client.get("/api/v1/models?type=asr").json()["data"] == []
        traits = client.get("/api/v1/models/traits").json()["data"]
        assert traits["default"] == "sketch"
        mapping = client.get("/api/v1/models/compatibility_mapping").json()["data"]
        assert mapping["firered-image-edit"] == "sketch"
        wrong = client.get("/api/v1/models?type=smells")
        assert wrong.status_code == 400
        assert wrong.json()["details"]["type"]["_errors"]


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"/>'
BAD: list[tuple[str, bytes, int, str]] = [
    ("26 MB", file(300, 300).ljust(26 * 2**20, b"\0"), 413, "25 MB"),
    ("SVG", SVG, 400, "SVG"),
    ("truncated", noise(300, 300)[:9000], 400, "damaged"),
    ("1 px", file(1, 1), 400, "at least 65536 pixels"),
    ("a ribbon", file(2000, 63), 400, "64 a side"),
    ("too wide", file(9000, 64), 422, "Image dimensions exceed the maximum allowed."),
    ("text", b"hello", 400, "not an image"),
    ("empty", b"", 400, "empty"),
]


@pytest.mark.parametrize(("data", "status", "says"), [case[1:] for case in BAD],
                         ids=[case[0] for case in BAD])  # fmt: skip
def test_bad_uploads(sketch, data: bytes, status: int, says: str) -> None:
    began = time.monotonic()
    answers = [form(sketch, EDIT, [("image", data)], prompt=PROMPT)]
    if data:
        answers.append(sketch.post(EDIT, prompt=PROMPT, image=text(data)))
    assert time.monotonic() - began < 5
    for answer in answers:
        assert answer.status_code == status, answer.text
        assert says in answer.text
        body = answer.json()
        assert isinstance(body["error"], str)
        if status == 400:
            assert body["details"]["image"]["_errors"]
            assert body["issues"][0]["path"] == ["image"]
        if status == 413:
            assert body["code"] == "PAYLOAD_TOO_LARGE"


def test_other_mistakes(sketch) -> None:
    base = text(file(300, 300))
    assert sketch.post(EDIT, image=base, prompt="x", model="nobody").status_code == 400
    body = sketch.post(EDIT, image=base, prompt="x", wobble=1).json()
    assert body["details"]["_errors"] == ["Unrecognized key(s) in object: 'wobble'"]
    answer = sketch.post(GENERATE, model="nobody", prompt="x", cfg_scale=3)
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("Specified model not found")
    with sketch.client() as client:
        answer = client.post(MULTI, content="x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    answer = sketch.post(EDIT, prompt="x", image="http://127.0.0.1:1/a.png")
    assert answer.status_code == 400
