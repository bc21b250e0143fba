"""What holds for the clients of all four services alike, on the real server with the toy."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

PREFIXES = ("/aimo/api/v1", "/venice/api/v1", "/depicta/v1", "/openai/v1", "/api/v1", "/v1")
AIMO, VENICE, OPENAI, DEPICTA = PREFIXES[0], PREFIXES[1], PREFIXES[3], PREFIXES[2]


def file(mode: str = "RGB", kind: str = "PNG", side: int = 256) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, len(mode)), np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = np.where(np.arange(side) < side // 2, 0, 255)
    Image.fromarray(pixels, mode).save(out := io.BytesIO(), kind)
    return out.getvalue()


PNG, MASK = file(), file("RGBA")


class Site(ThreadingHTTPServer):
    """Pictures on this machine, a mask, and one that drips; `asked` are the paths, in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: list[str] = []
        self.over = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        data = MASK if "mask" in self.path else PNG
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if "drip" not in self.path:
            self.wfile.write(data)
            return
        for byte in data:
            if self.server.over.wait(0.05):
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join(10)


@contextmanager
def toy_that_fetches(serving: Any, toy_config: Any, place: Any, hosts: str) -> Iterator[Any]:
    environment = {
        "LIMNER_SERVER__URL_FETCH": hosts,
        "LIMNER_SERVER__DATA_DIR": str(place),
        "LIMNER_LIMITS__FETCH_SECONDS": "1",
    }
    with serving("--config", str(toy_config), environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def fetching(serving, toy_config, place, site: Site) -> Iterator[Any]:
    with toy_that_fetches(serving, toy_config, place, json.dumps([site.host])) as server:
        yield server


def wishes(host: str, name: str = "a") -> list[tuple[str, dict[str, Any], list[str]]]:
    """Every field that takes an address: a request, and the paths it leads to."""
    url, mask = f"http://{host}/{name}.png", f"http://{host}/{name}-mask.png"
    whole = {"model": "toy", "prompt": "an owl"}
    said = {"prompt": "an owl"}
    hat = {"url": f"{url}?hat", "description": "a hat"}
    one, other, masked = f"/{name}.png", f"/{name}.png?hat", f"/{name}-mask.png"
    return [
        (f"{AIMO}/image/edit", whole | {"images": [{"url": url}]}, [one]),
        (
            f"{AIMO}/image/edit",
            whole | {"images": [{"url": url}, hat["url"]], "mask": {"url": mask}},
            [one, other, masked],
        ),
        (f"{VENICE}/image/edit", said | {"image": url}, [one]),
        (f"{VENICE}/image/multi-edit", said | {"images": [url, hat["url"]]}, [one, other]),
        (
            f"{OPENAI}/images/edits",
            said | {"images": [{"image_url": url}], "mask": {"image_url": mask}},
            [one, masked],
        ),
        (f"{DEPICTA}/generate/image", said | {"reference_images": [hat]}, [other]),
        (
            f"{DEPICTA}/edit/image",
            said | {"input_image_url": url, "reference_images": [hat]},
            [one, other],
        ),
        (f"{DEPICTA}/combine/image", said | {"input_image_urls": [url, hat["url"]]}, [one, other]),
    ]


@pytest.mark.parametrize("position", range(8))
def test_images_are_fetched_by_their_addresses(fetching, site: Site, position: int) -> None:
    path, body, leads_to = wishes(site.host)[position]
    site.asked.clear()
    answer = fetching.post(path, **body)
    assert answer.status_code == 200, answer.text
    assert site.asked == leads_to


def at_fault(path: str, body: Any) -> str:
    """The field that a refusal names, in the shape of its dialect."""
    if path.startswith(VENICE):
        [issue] = body["issues"]
        return str(issue["path"][0])
    if path.startswith(DEPICTA):
        [name] = body["details"]
        return name
    if path.startswith(OPENAI):
        return body["error"]["param"]
    return body["error"]["message"].partition(":")[0]


FIELDS = [
    *("images[0].url", "images[0].url", "image", "images", "images[0].image_url"),
    *("reference_images[0].url", "input_image_url", "input_image_urls[0]"),
]


def refused(server: Any, host: str, name: str) -> list[str]:
    """What each dialect says, after checking its status and the field that it names."""
    said: list[str] = []
    for (path, body, _), field in zip(wishes(host, name), FIELDS, strict=True):
        answer = server.post(path, **body)
        assert answer.status_code == (422 if path.startswith(DEPICTA) else 400), answer.text
        assert at_fault(path, answer.json()) == field
        said.append(answer.text)
    return said


def test_what_drips_for_ever_is_refused_soon_and_leaves_nothing(
    fetching, site: Site, place: Any
) -> None:
    kept = place / "artifacts"
    before = sorted(kept.rglob("*")) if kept.exists() else []
    began = time.monotonic()
    said = refused(fetching, site.host, "drip")
    assert time.monotonic() - began < 8 * 5  # each within a second, and on a busy machine
    assert all("could not fetch the image" in text for text in said)
    assert (sorted(kept.rglob("*")) if kept.exists() else []) == before


def test_only_listed_hosts_are_asked(fetching) -> None:
    assert all("url_fetch" in text for text in refused(fetching, "example.test", "a"))


def test_where_fetching_is_off_it_is_said_how_to_turn_it_on(
    serving, toy_config, tmp_path, site: Site
) -> None:
    site.asked.clear()
    with toy_that_fetches(serving, toy_config, tmp_path, "off") as server:
        for path, body, _ in wishes(site.host):
            answer = server.post(path, **body)
            assert answer.status_code == (400 if path.startswith(VENICE) else 422), answer.text
            assert "url_fetch" in answer.text
    assert not site.asked


# -- The same in four accents ---------------------------------------------------------------------


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_same_wish_is_the_same_picture(toy) -> None:
    wish = {"model": "toy", "prompt": "an owl", "seed": 11, "steps": 3}
    aimo = toy.post(f"{AIMO}/image/generate", **wish, output_type="file")
    venice = toy.post(f"{VENICE}/image/generate", **wish, format="png", return_binary=True)
    openai = toy.post(f"{OPENAI}/images/generations", **wish).json()["data"][0]
    depicta = toy.post(f"{DEPICTA}/generate/image", **wish).json()
    files = {
        "aimo": aimo.content,
        "venice": venice.content,
        "openai": base64.b64decode(openai["b64_json"]),
        "depicta": httpx2.get(depicta["image_url"]).content,
    }
    for name, data in files.items():
        assert (pixels(data) == pixels(files["aimo"])).all(), name
    other = toy.post(f"{AIMO}/image/generate", **wish | {"seed": 12}, output_type="file")
    assert (pixels(other.content) != pixels(files["aimo"])).any()


def test_the_same_edit_is_the_same_picture(toy) -> None:
    wish = {"model": "toy", "prompt": "an owl"}
    text = base64.b64encode(PNG).decode()
    url = f"data:image/png;base64,{text}"
    seed = {"seed": 11}
    aimo = toy.post(f"{AIMO}/image/edit", **wish, **seed, images=[url], output_type="file")
    openai = toy.post(f"{OPENAI}/images/edits", **wish, **seed, images=[{"image_url": url}])
    depicta = toy.post(f"{DEPICTA}/edit/image", **wish, **seed, input_image_url=url)
    venice = toy.post(f"{VENICE}/image/edit", **wish, image=text)  # which takes no seed
    again = {"seed": int(venice.headers["x-limner-seed"])}
    files = [
        aimo.content,
        base64.b64decode(openai.json()["data"][0]["b64_json"]),
        httpx2.get(depicta.json()["image_url"]).content,
    ]
    for data in files:
        assert (pixels(data) == pixels(aimo.content)).all()
    same = toy.post(f"{AIMO}/image/edit", **wish, **again, images=[url], output_type="file")
    assert (pixels(venice.content) == pixels(same.content)).all()


def test_one_list_of_models_is_for_all(toy) -> None:
    with toy.client() as client:
        lists = [client.get(f"{prefix}/models").json() for prefix in PREFIXES]
    assert lists == lists[:1] * len(PREFIXES)


# -- What is no picture ---------------------------------------------------------------------------

BAD = {
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"/>',
    "truncated": PNG[:9000],
    "text": b"hello",
}
LARGE = PNG.ljust(26 * 2**20 + 1, b"\0")


def edits(server: Any, data: bytes) -> dict[str, httpx2.Response]:
    """An edit of this file in every dialect, as its clients send files."""
    text = base64.b64encode(data).decode()
    wish = {"model": "toy", "prompt": "an owl"}
    files = {"image": ("a.png", data)}
    with server.client() as client:
        return {
            AIMO: client.post(
                f"{AIMO}/image/edit", json=wish | {"images": [f"data:image/png;base64,{text}"]}
            ),
            VENICE: client.post(f"{VENICE}/image/edit", json=wish | {"image": text}),
            OPENAI: client.post(f"{OPENAI}/images/edits", data=wish, files=files),
            DEPICTA: client.post(f"{DEPICTA}/edit/image", data=wish, files=files),
        }


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused_in_every_dialect(toy, name: str) -> None:
    began = time.monotonic()
    for prefix, answer in edits(toy, BAD[name]).items():
        assert answer.status_code == (422 if prefix == DEPICTA else 400), (prefix, answer.text)
        assert at_fault(prefix, answer.json()).startswith("image")
    assert time.monotonic() - began < 20


def test_a_file_that_is_too_large_is_refused_where_its_service_would(toy) -> None:
    answers = edits(toy, LARGE)
    assert answers.pop(DEPICTA).status_code == 200  # which takes 50 MB
    for prefix, answer in answers.items():
        assert answer.status_code == 413, (prefix, answer.text)
        assert "26214400 bytes" in answer.text
