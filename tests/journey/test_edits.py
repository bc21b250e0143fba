"""Edits through the real server with the toy: what becomes of uploads, and what is said of it."""

import base64
import io
import json
import re
import time
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest
from PIL import Image

GENERATE, EDIT = "/api/v1/image/generate", "/api/v1/image/edit"


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def upload(pixels: np.ndarray) -> dict[str, str]:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return {"b64": base64.b64encode(out.getvalue()).decode()}


def picture(answer: httpx2.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    data = answer.json()["images"][0]["data_url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def warned(answer: httpx2.Response) -> dict[str, str]:
    raw = answer.json()["provider_metadata"]["raw"]
    return {warning["param"]: warning["message"] for warning in raw["warnings"]}


def edit(server: Any, **fields: object) -> httpx2.Response:
    return server.post(EDIT, **{"model": "toy", "prompt": "an owl", "seed": 1, **fields})


def test_another_shape_crops_around_the_centre_and_says_so(toy) -> None:
    base = noise(256, 128)
    mask = np.zeros((128, 256), np.uint8)
    mask[:, :100] = 255
    answer = edit(toy, images=[upload(base)], mask=upload(mask), width="128", height=128, steps=2)
    image = np.asarray(picture(answer))
    assert image.shape == (128, 128, 3)
    assert (image[:, 36:] == base[:, 100:192]).all()  # 36 columns of the mask are left
    assert (image[:, :36] != base[:, 64:100]).any()
    assert "cropped" in warned(answer)["images[0]"]


def test_the_same_shape_is_not_cropped(toy) -> None:
    answer = edit(toy, images=[upload(noise(200, 100))], width=160, height=80, steps=1)
    assert "images[0]" not in warned(answer)


def test_transparency_is_put_on_white_and_said(toy) -> None:
    answer = edit(toy, images=[upload(noise(64, 64, 4))], steps=1)
    assert warned(answer)["images[0]"] == "transparency was put on white"
    assert "images[0]" not in warned(edit(toy, images=[upload(noise(64, 64))], steps=1))


def test_surplus_images_are_named_and_their_sizes_told(toy) -> None:
    sizes = [(64, 64), (80, 64), (96, 64), (64, 96), (70, 70)]
    answer = edit(toy, images=[upload(noise(*size)) for size in sizes], steps=1)
    told = [(size["width"], size["height"]) for size in answer.json()["input_images"]]
    assert told == sizes
    assert "5" in warned(answer)["images"]


def test_a_bad_image_anywhere_refuses_the_request(toy) -> None:
    images = [upload(noise(64, 64)) for _ in range(5)] + [{"b64": "AAAA"}]
    answer = edit(toy, images=images)
    assert answer.status_code == 400
    assert "images[5]" in answer.json()["error"]["message"]


def test_an_empty_mask_is_refused(toy) -> None:
    answer = edit(toy, images=[upload(noise(64, 64))], mask=upload(np.zeros((64, 64), np.uint8)))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_mask"


def test_an_unknown_model_is_told_before_its_images_are_read(toy) -> None:
    answer = edit(toy, model="nobody", images=[{"b64": "AAAA"}])
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_stream_names_all_warnings_in_its_header(toy) -> None:
    wish = {"model": "toy", "prompt": "an owl", "steps": 500, "bogus": 1, "stream": True}
    answer = toy.post(GENERATE, **wish)
    named = {warning["param"] for warning in json.loads(answer.headers["x-limner-warnings"])}
    assert {"steps", "bogus"} <= named


def test_each_request_leaves_one_line_that_its_client_cannot_forge(toy) -> None:
    toy.post(GENERATE, model="toy", prompt="a secret owl", user="bob model=evil\nx", steps=1)
    deadline = time.monotonic() + 5
    while not (lines := re.findall(r"^.* user=.*bob.*$", toy.log, re.MULTILINE)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert re.fullmatch(
        r'\S+ \S+ INFO server.jobs.service: id=[0-9a-f]{32} dialect=aimo user="bob model=evil\\nx" '
        r"model=toy .* painted=1/1 queue=\S+ paint=\S+ total=\S+",
        lines[0],
    )
    assert "secret" not in toy.log


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_metadata_says_what_was_painted(toy, kind: str) -> None:
    answer = toy.post(
        GENERATE,
        model="toy",
        prompt="an owl",
        style_preset="Anime",
        seed=5,
        steps=3,
        embed_exif_metadata=True,
        output_format=kind,
    )
    with picture(answer) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        text = comment[8:].decode("ascii") if isinstance(comment, bytes) else str(comment)
    assert "seed: 5" in text
    assert "steps: 3" in text
    assert "an owl" in text
    assert "prompt: an owl\n" not in text  # but with its style


def test_large_uploads_do_not_stay_in_memory(own_toy) -> None:
    big = upload(np.zeros((4000, 6000, 3), np.uint8))
    server = psutil.Process(own_toy.process.pid)
    edit(own_toy, images=[big] * 4, steps=1, width=64, height=64)
    before = server.memory_info().rss
    peak = before
    for _ in range(3):
        edit(own_toy, images=[big] * 4, steps=1, width=64, height=64)
        peak = max(peak, server.memory_info().rss)
    assert (peak - before) / 1e6 < 40
