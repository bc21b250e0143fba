"""Who a request is for, where services share a path; and that nothing is lost on the way."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from server.edge import chooser, web
from server.edge.chooser import Chooser

LIMIT = 100_000
BEARER = {"Authorization": "Bearer abc"}


class Named:
    """An application that answers its name, its path and the body it was given."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await web.body(Request(scope, receive), LIMIT)
        answer = {"name": self.name, "body": len(body), "path": scope["path"]}
        await JSONResponse(answer)(scope, receive, send)


def app() -> FastAPI:
    whole = FastAPI()
    api = {name: Named(name) for name in ("aimo", "venice", "openai")}
    v1 = {name: Named(name) for name in ("openai", "depicta")}
    whole.mount("/api/v1", Chooser(api, chooser.API_PATHS, chooser.API_KEYS, LIMIT))
    whole.mount("/v1", Chooser(v1, chooser.V1_PATHS, {}, LIMIT))
    web.install(whole, web.plain)
    return whole


def ask(method: str, path: str, **said: Any) -> httpx2.Response:
    async def talk() -> httpx2.Response:
        transport = httpx2.ASGITransport(app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **said)

    return asyncio.run(talk())


EDIT, GENERATE = "/api/v1/image/edit", "/api/v1/image/generate"
ROUTES: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", EDIT, {"json": {"images": []}}, "aimo"),
    ("POST", EDIT, {"json": {"image": "x", "prompt": "y"}}, "venice"),
    ("POST", EDIT, {"json": {"modelId": "x"}}, "venice"),
    ("POST", EDIT, {"json": {"prompt": "y"}}, "aimo"),
    ("POST", EDIT, {"json": {"prompt": "y"}, "headers": BEARER}, "venice"),
    ("POST", EDIT, {"json": {"image": "x", "images": []}}, "aimo"),
    ("POST", EDIT, {"json": {"image": "x", "images": []}, "headers": BEARER}, "venice"),
    ("POST", EDIT, {"data": {"prompt": "x"}, "files": {"image": b"x"}}, "venice"),
    ("POST", EDIT, {"content": b"no json"}, "aimo"),
    ("POST", EDIT, {"content": b"[1]"}, "aimo"),
    ("GET", EDIT, {}, "aimo"),
    ("POST", GENERATE, {"json": {"model": "x", "prompt": "y"}}, "aimo"),
    ("POST", GENERATE, {"json": {"model": "x", "prompt": "y"}, "headers": BEARER}, "aimo"),
    ("POST", GENERATE, {"json": {"cfg_scale": 3}}, "venice"),
    ("POST", GENERATE, {"json": {"guide_scale": 3}}, "aimo"),
    ("POST", "/api/v1/image/upscale", {}, "venice"),
    ("GET", "/api/v1/image/styles", {}, "venice"),
    ("GET", "/api/v1/models", {}, "venice"),
    ("GET", "/api/v1/models/traits", {}, "venice"),
    ("POST", "/api/v1/images/generations", {"json": {}}, "openai"),
    ("GET", "/api/v1/session/balance", {}, "aimo"),
    ("GET", "/api/v1/nowhere", {}, "aimo"),
    ("POST", "/v1/images/edits", {}, "openai"),
    ("GET", "/v1/models/some/thing", {}, "openai"),
    ("POST", "/v1/edit/image", {}, "depicta"),
    ("POST", "/v1/upload", {}, "depicta"),
    ("GET", "/v1/jobs/abc", {}, "depicta"),
    ("GET", "/v1/guidelines/search", {}, "depicta"),
    ("GET", "/v1/skill-version", {}, "depicta"),
    ("GET", "/api/v1/x402/balance/0x1", {}, "venice"),
    ("GET", "/v1/editor", {}, "openai"),
]


@pytest.mark.parametrize(("method", "path", "said", "name"), ROUTES)
def test_a_request_goes_to_its_dialect_whole(
    method: str, path: str, said: dict[str, Any], name: str
) -> None:
    answer = ask(method, path, **said).json()
    assert (answer["name"], answer["path"]) == (name, path)
    if "json" in said:
        assert answer["body"] == len(json.dumps(said["json"], separators=(",", ":")))


@pytest.mark.parametrize("name", ["aimo", "Venice", " openai "])
def test_a_header_says_it_outright(name: str) -> None:
    said = {"json": {"images": []}, "headers": {chooser.HEADER: name}}
    assert ask("POST", EDIT, **said).json()["name"] == name.strip().lower()


def test_a_header_of_no_dialect_is_refused() -> None:
    answer = ask("POST", EDIT, json={}, headers={chooser.HEADER: "depicta"})
    assert answer.status_code == 400
    assert "aimo, venice, openai" in answer.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused_here_already() -> None:
    assert ask("POST", EDIT, content=b"x" * (LIMIT + 1)).status_code == 413


def test_a_body_of_many_values_is_not_taken_apart() -> None:
    body = json.dumps({str(i): 0 for i in range(web.MAX_VALUES + 1)}).encode()
    assert chooser.keys_of(body) == ()
