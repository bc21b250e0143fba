"""The route that links lead to."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Message

from server.edge import files, web
from server.edge.delivery import Gone
from server.results.artifacts import Artifact, Artifacts
from server.results.shelf import Shelf

HOUR = 3600
DATA = os.urandom(700_000)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


Story = Callable[[httpx2.AsyncClient, Artifacts, Clock], Awaitable[None]]


def tell(tmp_path: Path, story: Story) -> None:
    """Run a story with a client of an application that has the route."""

    async def whole() -> None:
        clock = Clock()
        shelf = Shelf((tmp_path / "artifacts").as_uri())
        artifacts = Artifacts(shelf, lambda: ["k" * 64], hours=24, quota=10**9, clock=clock)
        app = FastAPI()
        app.include_router(files.build(artifacts))
        web.install(app, web.plain)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            await story(client, artifacts, clock)

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("mime", "ending"), [("image/png", "png"), ("image/jpeg", "jpg"), ("image/webp", "webp")]
)
def test_the_bytes_and_what_is_said_of_them(tmp_path: Path, mime: str, ending: str):
    async def story(client: httpx2.AsyncClient, artifacts: Artifacts, clock: Clock) -> None:
        artifact = await artifacts.put(DATA, mime)
        path = artifacts.sign(artifact.id).path
        clock.now += 600
        answer = await client.get(path)
        assert (answer.status_code, answer.content) == (200, DATA)
        digest = hashlib.sha256(answer.content).hexdigest()
        assert dict(answer.headers) == {
            "content-type": mime,
            "content-length": f"{len(DATA)}",
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'; sandbox",
            "content-disposition": f'inline; filename="limner.{ending}"',
            "cache-control": "private, max-age=3000, immutable",
            "etag": f'"{digest}"',
        }
        head = await client.head(path)
        assert (head.status_code, head.content, head.headers) == (200, b"", answer.headers)

    tell(tmp_path, story)


def test_head_reads_nothing(tmp_path: Path):
    async def story(client: httpx2.AsyncClient, artifacts: Artifacts, clock: Clock) -> None:
        artifact = await artifacts.put(DATA, "image/png")
        path, _, query = artifacts.sign(artifact.id).path.partition("?")
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        scope = {"type": "http", "method": "HEAD", "path": path, "headers": []}
        app = FastAPI()
        app.include_router(files.build(artifacts))
        await app(scope | {"query_string": query.encode()}, receive, send)
        assert sent[0]["status"] == 200
        assert b"".join(message.get("body", b"") for message in sent) == b""

    tell(tmp_path, story)


def test_who_has_it_already_is_not_sent_it(tmp_path: Path):
    async def story(client: httpx2.AsyncClient, artifacts: Artifacts, clock: Clock) -> None:
        artifact = await artifacts.put(DATA, "image/png")
        path = artifacts.sign(artifact.id).path
        for tag, status in ((f'"{artifact.sha256}"', 304), (f'W/"{artifact.sha256}"', 304)):
            answer = await client.get(path, headers={"If-None-Match": f'"x", {tag}'})
            assert (answer.status_code, answer.content) == (status, b"")
            assert answer.headers["etag"] == f'"{artifact.sha256}"'
        answer = await client.get(path, headers={"If-None-Match": '"x"'})
        assert answer.status_code == 200

    tell(tmp_path, story)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_refusals(tmp_path: Path, method: str):
    async def story(client: httpx2.AsyncClient, artifacts: Artifacts, clock: Clock) -> None:
        async def refusal(path: str) -> tuple[int, str, str]:
            answer = await client.request(method, path, headers={"If-None-Match": etag})
            code = answer.json()["error"]["code"] if method == "GET" else ""
            return answer.status_code, code, answer.headers["cache-control"]

        forbidden = (403, "forbidden" if method == "GET" else "", "no-store")
        expired = (410, "expired" if method == "GET" else "", "no-store")
        etag = '"x"'
        artifact = await artifacts.put(DATA, "image/png")
        other = Artifact.of(DATA, "image/png", clock.now)
        path = artifacts.sign(artifact.id).path
        bare = path.partition("?")[0]
        assert await refusal(path.replace(artifact.id, other.id)) == forbidden
        assert await refusal(path.replace(".png", ".jpg")) == forbidden
        assert await refusal(path.replace("expires=1", "expires=2")) == forbidden
        assert await refusal(path + "x") == forbidden
        assert await refusal(bare) == forbidden
        assert await refusal("/files/x.png?expires=1&signature=x") == forbidden
        assert await refusal("/files/%2e%2e%2fsigning.key?expires=9&signature=%ff") in (
            forbidden,
            (404, "not_found" if method == "GET" else "", "no-store"),
        )
        assert await refusal(artifacts.sign(other.id).path) == expired  # there is no such thing
        clock.now += HOUR
        assert await refusal(path) == expired
        etag = f'"{artifact.sha256}"'
        assert await refusal(path) == expired

    tell(tmp_path, story)


def test_other_methods_are_not_allowed(tmp_path: Path):
    async def story(client: httpx2.AsyncClient, artifacts: Artifacts, clock: Clock) -> None:
        artifact = await artifacts.put(DATA, "image/png")
        path = artifacts.sign(artifact.id).path
        for method in ("POST", "PUT", "DELETE"):
            assert (await client.request(method, path)).status_code == 405
        assert await artifacts.read(artifact.id) == DATA

    tell(tmp_path, story)


def test_a_slow_reader_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "SEND_SECONDS", 0.05)

    async def story(client: httpx2.AsyncClient, artifacts: Artifacts, clock: Clock) -> None:
        opened = await artifacts.open((await artifacts.put(DATA, "image/png")).id)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(10)

        async def receive() -> Message:
            raise AssertionError("nothing is read")

        with pytest.raises(Gone):
            await files.FileAnswer(opened.pieces, {})({"type": "http"}, receive, send)
        with pytest.raises(StopAsyncIteration):  # the file is not held open
            await anext(opened.pieces)

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("public_url", "said"),
    [
        ("", "http://10.0.0.7:8484"),
        ("https://paint.example/limner", "https://paint.example/limner"),
    ],
)
def test_what_links_start_with(public_url: str, said: str):
    scope = {"type": "http", "scheme": "http", "path": "/v1/x", "root_path": "/v1"}
    scope |= {"query_string": b"", "headers": [(b"host", b"10.0.0.7:8484")]}
    assert files.address(Request(scope), public_url) == said
