"""The OpenAI dialect on the scripted service, and one-request helpers for its tests."""

import json
from dataclasses import replace
from typing import Any

import httpx2

from server.dialects import openai
from server.errors import BadRequest
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog
from server.jobs.intake import Draft
from server.settings.tables import Config
from tests.server.dialects import easel
from tests.server.dialects.easel import LIMITS, PNG, STAND, URL, asked

CATALOG = Catalog.of(
    Config.model_validate(
        {
            "model": [
                {"id": "blind", "family": "toy", "native": ["64x64"], "tasks": ["generate"]},
                {"id": "maskless", "family": "toy", "native": ["64x64"], "tasks": ["edit"]},
                {"id": "sketch", "family": "toy", "native": ["64x64"]},
            ],
            "alias": [{"model": "sketch", "names": ["dall-e-2", "gpt-image-1", "lab/sketch"]}],
            "style": [{"name": "Anime", "prompt": "{prompt}, anime"}],
        }
    )
)
ASK = {"prompt": "a red circle"}
EDIT = {**ASK, "images": [{"image_url": URL}]}
FILES = [("image", PNG)]


class Easel(easel.Easel):
    """As its namesake, with the models of this catalog."""

    def __init__(self, misses: tuple[int, ...] = (), breaks: Exception | None = None) -> None:
        super().__init__(misses, breaks)
        self.expected: list[str] = []

    def expect(self, model: str, canvases: int) -> None:
        CATALOG.find(model)
        self.expected.append(model)


class Web:
    """A network on which every address leads to a picture."""

    async def fetch(self, url: str, *, param: str) -> bytes:
        if not url.startswith("http"):
            raise BadRequest("no address", param=param)
        return PNG


APP = openai.build(
    replace(easel.front(STAND), catalog=CATALOG, uploads=Uploads(LIMITS.image_bytes, Web()))
)


def send(
    path: str, easel: Easel | None = None, *, method: str = "POST", **how: Any
) -> httpx2.Response:
    """One request to the application, answered by this easel."""
    STAND.easel = easel or Easel()
    return asked(APP, method, path, **how)


def generate(body: dict[str, Any], easel: Easel | None = None) -> httpx2.Response:
    return send("/images/generations", easel, json=body)


def edit(
    body: dict[str, Any], easel: Easel | None = None, *, files: Any = FILES, to: str = "edits"
) -> httpx2.Response:
    """An edit as a form."""
    named = [(name, (f"{i}.png", data, "image/png")) for i, (name, data) in enumerate(files)]
    return send(f"/images/{to}", easel, data=body, files=named)


def understood(answer: httpx2.Response, easel: Easel) -> Draft:
    assert answer.status_code == 200, answer.text
    return easel.drafts[0]


def told(answer: httpx2.Response, status: int = 400, *codes: str) -> dict[str, Any]:
    """The error, after checking what every refusal of this dialect has in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) <= 2048
    assert answer.content.isascii()
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] in (codes or ("invalid_request",))
    return error


def events(answer: httpx2.Response) -> list[Any]:
    """The documents of a stream; each is named as its type says, but for an error."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    found: list[Any] = []
    for block in blocks[:-2]:
        *names, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert names == ([f"event: {found[-1]['type']}"] if "type" in found[-1] else [])
    return found
