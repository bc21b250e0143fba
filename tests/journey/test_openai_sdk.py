"""OpenAI's own client against a real server with the shipped model: what its users do."""

import base64
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image

PROMPT = "a red circle on a blue background"
FEW = {"steps": 4}


@pytest.fixture(scope="module")
def server(serving, tmp_path_factory) -> Iterator[Any]:
    place = {"LIMNER_SERVER__DATA_DIR": str(tmp_path_factory.mktemp("data"))}
    with serving(environment=place) as running:
        yield running


@pytest.fixture(scope="module")
def client(server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def pixels(b64: str | None) -> np.ndarray:
    assert b64 is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))))


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def scene(alpha: int | None = None) -> np.ndarray:
    """Noise, so that nothing in it comes back by chance."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 4), np.uint8)
    noise[..., 3] = 255
    if alpha is None:
        return noise[..., :3]
    noise[32:96, :64, 3] = alpha
    return noise


INSIDE = scene(0)[..., 3] == 0


def red(picture: np.ndarray) -> float:
    p = picture.astype(int)
    return float((p[..., 0] > p[..., 1:].max(axis=-1) + 40).mean())


def test_generate_two(client: OpenAI):
    answer = client.images.generate(model="gpt-image-1", prompt=PROMPT, n=2, extra_body={"seed": 7})
    assert answer.data is not None
    assert (answer.size, answer.output_format, answer.background) == ("512x512", "png", "opaque")
    first, second = (pixels(each.b64_json) for each in answer.data)
    assert first.shape == second.shape == (512, 512, 3)
    assert red(first) > 0.02 < red(second)
    assert (first != second).any()
    seeds = [getattr(each, "seed", None) for each in answer.data]
    assert seeds == [7, 8]
    again = client.images.generate(model="sketch", prompt=PROMPT, extra_body={"seed": 8})
    assert again.data is not None
    apart = np.abs(pixels(again.data[0].b64_json).astype(int) - second)
    assert apart.max() <= 1


def test_links(client: OpenAI):
    answer = client.images.generate(
        model="dall-e-3", prompt=PROMPT, quality="standard", style="vivid", extra_body=FEW
    )
    assert answer.data is not None
    [picture] = answer.data
    assert picture.b64_json is None
    assert picture.url is not None
    got = httpx2.get(picture.url)
    assert got.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(got.content)).size == (512, 512)
    told, signature = picture.url.split("&signature=")
    forged = f"{told}&signature={'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    assert httpx2.get(forged).status_code == 403


def test_compression(client: OpenAI):
    sizes: list[int] = []
    for compression in (10, 95):
        answer = client.images.generate(
            model="gpt-image-1",
            prompt=PROMPT,
            output_format="jpeg",
            output_compression=compression,
            size="256x256",
            extra_body={**FEW, "seed": 1},
        )
        assert answer.data is not None
        data = base64.b64decode(answer.data[0].b64_json or "")
        assert Image.open(io.BytesIO(data)).format == "JPEG"
        sizes.append(len(data))
    assert sizes[0] * 2 < sizes[1]


def test_stream(client: OpenAI):
    stream = client.images.generate(
        model="gpt-image-1",
        prompt=PROMPT,
        n=2,
        stream=True,
        partial_images=2,
        extra_body={"steps": 12, "seed": 3},
    )
    partials: dict[int, list[int]] = {0: [], 1: []}
    finished: dict[int, np.ndarray] = {}
    for event in stream:
        index = getattr(event, "index", -1)
        if event.type == "image_generation.partial_image":
            partials[index].append(event.partial_image_index)
            assert pixels(event.b64_json).shape == (256, 256, 3)
        else:
            assert event.type == "image_generation.completed"
            assert event.usage.total_tokens == 0
            finished[index] = pixels(event.b64_json)
    assert partials == {0: [0, 1], 1: [0, 1]}
    assert finished.keys() == {0, 1}
    assert red(finished[0]) > 0.02


def test_an_error_in_a_stream_is_raised(client: OpenAI):
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="nobody", prompt=PROMPT, stream=True)


def test_edit_one_and_two(client: OpenAI):
    base = png(scene())
    for image in (base, [base, base]):
        answer = client.images.edit(
            model="gpt-image-1", image=image, prompt=PROMPT, extra_body={"strength": 0.5, **FEW}
        )
        assert answer.data is not None
        assert answer.size == "128x128"
        assert (pixels(answer.data[0].b64_json) != scene()).any()


def test_edit_in_a_stream(client: OpenAI):
    events = client.images.edit(
        model="gpt-image-1", image=png(scene()), prompt=PROMPT, stream=True, extra_body=FEW
    )
    assert [event.type for event in events] == ["image_edit.completed"]


def masked(answer: Any) -> None:
    painted = pixels(answer.data[0].b64_json)
    assert np.array_equal(painted[~INSIDE], scene()[~INSIDE])
    changed = (painted[INSIDE] != scene()[INSIDE]).any(axis=-1)
    assert changed.mean() > 0.9


def test_a_mask_keeps_what_is_outside(client: OpenAI):
    masked(
        client.images.edit(
            model="gpt-image-1", image=png(scene()), mask=png(scene(0)), prompt=PROMPT
        )
    )


def test_the_transparency_of_one_image_is_its_mask(client: OpenAI):
    answer = client.images.edit(
        model="dall-e-2", image=png(scene(0)), prompt=PROMPT, response_format="b64_json"
    )
    masked(answer)
    # What was transparent is painted to its edge: nothing of the white under it shines through.
    column = pixels((answer.data or [])[0].b64_json)[36:92, 63]
    assert np.median(column.min(axis=-1)) < 120
    flat = client.images.edit(model="gpt-image-1", image=png(scene(0)), prompt=PROMPT)
    assert flat.data is not None
    assert (pixels(flat.data[0].b64_json)[~INSIDE] != scene()[~INSIDE]).any()


@pytest.mark.parametrize("images", [[scene(0), scene(0)], [scene(200)]])
def test_what_is_no_mask(client: OpenAI, images: list[np.ndarray]):
    """The transparency of two images, or one that shows more than it hides."""
    files = [png(each) for each in images]
    answer = client.images.edit(model="sketch", image=files, prompt=PROMPT, extra_body=FEW)
    assert answer.data is not None
    assert (pixels(answer.data[0].b64_json)[~INSIDE] != scene()[~INSIDE]).any()


TOY = """
[worker]
device = "cpu"
[[model]]
id = "toy"
family = "toy"
native = ["64x64"]
tasks = ["edit"]
"""


def test_a_model_without_masks_gets_transparency_on_white(serving, tmp_path):
    (tmp_path / "toy.toml").write_text(TOY)
    with serving("--config", str(tmp_path / "toy.toml")) as running:
        client = OpenAI(base_url=f"{running.url}/openai/v1", api_key="any", max_retries=0)
        with client:
            answer = client.images.edit(image=png(scene(0)), prompt="x")
    warned = (answer.model_extra or {})["limner"]["warnings"]
    assert {"param": "image[0]", "message": "transparency was put on white"} in warned


def test_json_edits(client: OpenAI):
    def url(array: np.ndarray) -> str:
        return f"data:image/png;base64,{base64.b64encode(png(array)).decode()}"

    body = {
        "prompt": PROMPT,
        "images": [{"image_url": url(scene())}],
        "mask": {"image_url": url(scene(0))},
    }
    masked(client.post("/images/edits", body=body, cast_to=openai.types.ImagesResponse))


def test_variations(client: OpenAI):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        answer = client.images.create_variation(
            image=png(scene()), n=2, response_format="b64_json", size="256x256"
        )
    assert answer.data is not None
    first, second = (pixels(each.b64_json) for each in answer.data)
    assert first.shape == (256, 256, 3)
    assert (first != second).any()


def test_models(client: OpenAI):
    assert [model.id for model in client.models.list()] == ["sketch", "sketch-flux"]
    assert client.models.retrieve("gpt-image-1").id == "sketch"


OPAQUE = png(scene())
ERRORS: list[tuple[type[openai.APIStatusError], Callable[[OpenAI], Any], str | None, str]] = [
    (openai.NotFoundError, lambda c: c.models.retrieve("a/b"), "model", "model_not_found"),
    (
        openai.NotFoundError,
        lambda c: c.images.generate(model="nobody", prompt="x"),
        "model",
        "model_not_found",
    ),
    (
        openai.BadRequestError,
        lambda c: c.images.generate(prompt="x", n=11),
        "n",
        "invalid_request",
    ),
    (
        openai.BadRequestError,
        lambda c: c.images.generate(prompt="x", size="8192x8192"),
        "size",
        "invalid_request",
    ),
    (
        openai.BadRequestError,
        lambda c: c.images.edit(image=OPAQUE, mask=OPAQUE, prompt="x"),
        "mask",
        "invalid_mask_image_format",
    ),
    (
        openai.BadRequestError,
        lambda c: c.images.edit(image=[OPAQUE, b"junk"], prompt="x"),
        "image[1]",
        "invalid_image_file",
    ),
    (
        openai.BadRequestError,
        lambda c: c.images.generate(prompt="x <lora:none:1>"),
        "prompt",
        "invalid_request",
    ),
    (openai.NotFoundError, lambda c: c.files.list(), None, "not_found"),
]


@pytest.mark.parametrize(("kind", "call", "param", "code"), ERRORS)
def test_errors(
    client: OpenAI,
    kind: type[openai.APIStatusError],
    call: Callable[[OpenAI], Any],
    param: str | None,
    code: str,
):
    with pytest.raises(kind) as raised:
        call(client)
    assert type(raised.value) is kind
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.request_id
