"""The shipped model through the real server: what a newcomer does first, judged by its pixels."""

import base64
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

GENERATE, EDIT = "/api/v1/image/generate", "/api/v1/image/edit"
PROMPT = "a red circle on a blue background"
BOTH = pytest.mark.parametrize("model", ["sketch", "sketch-flux"])


@pytest.fixture(scope="module")
def sketch(serving) -> Iterator[Any]:
    with serving() as server:
        yield server


def pictures(answer: httpx2.Response) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    return [opened(image["data_url"]) for image in answer.json()["images"]]


def opened(url: str) -> np.ndarray:
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    )


def data_url(pixels: np.ndarray, mode: str = "RGB") -> str:
    out = io.BytesIO()
    Image.fromarray(pixels, mode).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def share(pixels: np.ndarray, strong: int, weak: tuple[int, int]) -> float:
    """The share of pixels in which one channel clearly beats the two others."""
    p = pixels.astype(int).reshape(-1, 3)
    return float((p[:, strong] > p[:, list(weak)].max(axis=1) + 40).mean())


def red(pixels: np.ndarray) -> float:
    return share(pixels, 0, (1, 2))


def blue(pixels: np.ndarray) -> float:
    return share(pixels, 2, (0, 1))


def test_the_printed_curl_line_works_when_pasted(sketch, tmp_path) -> None:
    sketch.wait_until_ready_again()
    (line,) = re.findall(r"^curl .*?-o circle\.png", sketch.log, re.MULTILINE | re.DOTALL)
    subprocess.run(shlex.split(line.replace("\\\n", " ")), cwd=tmp_path, check=True, timeout=60)
    image = np.asarray(Image.open(tmp_path / "circle.png"))
    assert image.shape == (512, 512, 3)
    assert red(image) > 0.02
    assert blue(image) > 0.4


def test_the_readme_works_as_printed(sketch, tmp_path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = [
        block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "curl -s" in block
    ]
    assert len(blocks) == 3
    for block in blocks:
        script = block.replace("http://127.0.0.1:8484", sketch.url)
        script = script.replace(".venv/bin/python", sys.executable)
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=60)
    circle, filled = (
        np.asarray(Image.open(tmp_path / name)) for name in ("circle.png", "filled.png")
    )
    inside = np.s_[128:385, 128:385]
    assert (circle[inside] != filled[inside]).any()
    outside = np.ones(circle.shape[:2], bool)
    outside[inside] = False
    assert (circle[outside] == filled[outside]).all()
    assert (tmp_path / "yellow.png").stat().st_size > 1000


def test_documented_slugs_paint_and_others_are_unknown(sketch) -> None:
    for slug in ("dall-e-3", "flux-pro", "qwen-edit", "gpt-image-1"):
        answer = sketch.post(GENERATE, model=slug, prompt=PROMPT, steps=2)
        assert answer.status_code == 200
        assert answer.json()["provider_metadata"]["raw"]["model"] == "sketch"
    answer = sketch.post(GENERATE, model="no-such-model", prompt=PROMPT)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_the_sibling_of_the_flux_class_paints_beside_it(sketch) -> None:
    """It is loaded when it is first asked for, while the other goes on."""
    models = ["sketch", "sketch-flux"] * 3

    def asked(model: str) -> httpx2.Response:
        return sketch.post(GENERATE, model=model, prompt=PROMPT, seed=4)

    with ThreadPoolExecutor(len(models)) as pool:
        answers = list(pool.map(asked, models))
    painted = [pictures(answer)[0] for answer in answers]
    for model, answer, picture in zip(models, answers, painted, strict=True):
        assert answer.json()["provider_metadata"]["raw"]["model"] == model
        assert picture.shape == (512, 512, 3)
        assert red(picture) > 0.02
        assert blue(picture) > 0.4
    assert (painted[0] != painted[1]).any()


@BOTH
def test_image_i_of_n_equals_the_single_one_with_its_seed(sketch, model) -> None:
    wish = {"model": model, "prompt": PROMPT, "steps": 6}
    answer = sketch.post(GENERATE, **wish, n=3, seed=2**31 - 2)
    seeds = [image["seed"] for image in answer.json()["images"]]
    assert seeds == [2**31 - 2, 2**31 - 1, 0]
    for seed, together in zip(seeds, pictures(answer), strict=True):
        (alone,) = pictures(sketch.post(GENERATE, **wish, seed=seed))
        assert np.abs(alone.astype(int) - together.astype(int)).max() <= 1


@BOTH
def test_strict_repeats_to_the_bit(sketch, model) -> None:
    wish = {"model": model, "prompt": PROMPT, "steps": 6, "seed": 7, "strict": True}
    (first,) = pictures(sketch.post(GENERATE, **wish))
    many = pictures(sketch.post(GENERATE, **wish, n=4))
    assert (first == many[0]).all()


def test_a_drawn_seed_is_returned_and_repeats(sketch) -> None:
    wish = {"model": "sketch", "prompt": PROMPT, "steps": 4}
    answer = sketch.post(GENERATE, **wish, seed=-1)
    seed = answer.json()["images"][0]["seed"]
    (again,) = pictures(sketch.post(GENERATE, **wish, seed=seed, strict=True))
    assert np.abs(again.astype(int) - pictures(answer)[0].astype(int)).max() <= 1


@BOTH
def test_inpainting_changes_the_mask_and_nothing_else(sketch, model) -> None:
    """A base of random noise: any pixel that went through the model would differ."""
    base = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    mask = np.zeros((300, 260), np.uint8)
    mask[90:210, 70:190] = 255
    answer = sketch.post(
        EDIT,
        model=model,
        prompt=PROMPT,
        images=[{"b64": data_url(base)}],
        mask={"b64": data_url(mask, "L")},
        seed=3,
    )
    (image,) = pictures(answer)
    assert image.shape == base.shape
    assert (image[mask == 0] == base[mask == 0]).all()
    assert (image[mask == 255] != base[mask == 255]).any()
    assert answer.json()["input_images"] == [{"width": 260, "height": 300}]


def test_an_alpha_mask_means_transparent_is_repainted(sketch) -> None:
    base = np.full((128, 128, 3), (20, 20, 200), np.uint8)
    alpha = np.full((128, 128, 4), 255, np.uint8)
    alpha[32:96, 32:96, 3] = 0
    wish = {"model": "sketch", "prompt": PROMPT, "images": [{"b64": data_url(base)}], "seed": 3}
    (by_alpha,) = pictures(sketch.post(EDIT, **wish, mask={"b64": data_url(alpha, "RGBA")}))
    white = np.where(alpha[..., 3] == 0, 255, 0).astype(np.uint8)
    (by_white,) = pictures(sketch.post(EDIT, **wish, mask={"b64": data_url(white, "L")}))
    assert np.abs(by_alpha.astype(int) - by_white.astype(int)).max() <= 1
    assert (by_alpha[:32] == base[:32]).all()


@BOTH
def test_an_edit_without_a_mask_starts_from_the_image(sketch, model) -> None:
    base = np.full((128, 128, 3), (20, 20, 200), np.uint8)
    wish = {"model": model, "prompt": "a blue background", "images": [{"b64": data_url(base)}]}
    (little,) = pictures(sketch.post(EDIT, **wish, seed=3, strength=0.2))
    assert blue(little) > 0.9


@BOTH
def test_a_stream_ends_with_the_plain_answer(sketch, model) -> None:
    wish = {"model": model, "prompt": PROMPT, "seed": 5, "n": 2, "steps": 9}
    with sketch.client() as client:
        answer = client.post(GENERATE, json=wish | {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line[6:]) for line in lines[:-1]]
    previews = [event for event in events if "partial_image_index" in event]
    assert previews
    assert all(event["status"] == "processing" for event in events[:-1])
    assert events[-1]["status"] == "completed"
    plain = pictures(sketch.post(GENERATE, **wish))
    for mine, image in zip(plain, events[-1]["images"], strict=True):
        assert np.abs(mine.astype(int) - opened(image["data_url"]).astype(int)).max() <= 1


@BOTH
def test_a_late_preview_shows_what_is_coming(sketch, model) -> None:
    """At step 8 of 9 the preview, shrunk, is close to the picture, shrunk as much."""
    with sketch.client() as client:
        wish = {"model": model, "prompt": PROMPT, "seed": 5, "steps": 9, "stream": True}
        answer = client.post(GENERATE, json=wish)
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    events = [json.loads(line) for line in lines]
    last = [event for event in events if "partial_image_index" in event][-1]
    shown, final = (
        np.asarray(Image.fromarray(opened(e["images"][0]["data_url"])).resize((8, 8)), int)
        for e in (last, events[-1])
    )
    assert np.abs(shown - final).mean() < 30


def test_nothing_is_ignored_in_silence(sketch) -> None:
    answer = sketch.post(
        GENERATE,
        model="sketch",
        prompt=PROMPT,
        steps=900,
        guide_scale=50,
        safe_mode=True,
        watermark=True,
        lora_strength=50,
        enable_web_search=True,
        resolution="1K",
        wobble=1,
        metadata={"job": 7},
    )
    raw = answer.json()["provider_metadata"]["raw"]
    named = {warning["param"] for warning in raw["warnings"]}
    assert {"steps", "safe_mode", "watermark", "lora_strength", "wobble"} <= named
    assert {"enable_web_search", "resolution"} <= named
    assert raw["metadata"] == {"job": 7}
    header = json.loads(answer.headers["x-limner-warnings"])
    assert {warning["param"] for warning in header} == named
    assert answer.json()["images"][0]["width"] == 1024
