"""A service that paints by script, and one-request helpers for the tests of the AIMO dialect."""

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

from models.contract import Image, Job
from server import errors
from server.dialects import aimo
from server.edge.front import Front
from server.errors import BadImage, Refusal, UnknownModel
from server.history.database import Database
from server.history.store import Store
from server.images.decode_child import Opened
from server.images.pictures import Picture
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog
from server.jobs.errands import Errands
from server.jobs.intake import Draft, Notice, Order
from server.jobs.service import Admitted, Missed, Painted, Painter, Progress, Result, Update
from server.results.artifacts import Artifacts
from server.results.shelf import Shelf
from server.settings.tables import Config, LimitsTable
from server.sizes import Size

CONFIG = Config.model_validate({"model": [{"id": "sketch", "family": "toy", "native": ["64x64"]}]})
LIMITS = LimitsTable(body_bytes=200_000, image_bytes=60_000)
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
B64 = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{B64}"
ASK = {"model": "sketch", "prompt": "a red circle"}
EDIT = {**ASK, "images": [{"b64": URL}]}


RESOLVED = Notice("guidance", "asked for 50, used 10")


class Easel:
    """A service that paints by script: `misses` are the indexes that fail; it decodes nothing."""

    def __init__(self, misses: tuple[int, ...] = (), breaks: Exception | None = None) -> None:
        self.drafts: list[Draft] = []
        self.misses = misses
        self.breaks = breaks

    def expect(self, model: str, canvases: int) -> None:
        if model != "sketch":
            raise UnknownModel("there is no such model", param="model")

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        self.drafts.append(draft)
        for i, data in enumerate(draft.images):
            if not data.startswith(b"\x89PNG"):
                raise BadImage("not a PNG, JPEG or WebP image", param=f"images[{i}]")
        yield self._updates(draft)

    async def _updates(self, draft: Draft) -> AsyncIterator[Update]:
        updates: list[Painted | Missed] = []
        yield Admitted("img-1", 1_700_000_000, (*draft.ignored, RESOLVED))
        for i in range(draft.n):
            for step in (1, 2):
                preview = Picture(b"tiny", "webp", 32, 32) if step == 2 else None
                yield Progress(i, step, 2, preview if draft.preview else None)
            if self.breaks:
                raise self.breaks
            updates.append(_ending(draft, i, missed=i in self.misses))
            yield updates[-1]
        yield result_of(draft, updates)


def _ending(draft: Draft, i: int, *, missed: bool) -> Painted | Missed:
    if missed:
        return Missed(i, errors.OutOfMemory("too large for the device", retry_after=3))
    return Painted(i, (draft.seed or 0) + i, Picture(b"image%d" % i, draft.output_format, 64, 48))


def result_of(draft: Draft, updates: list[Painted | Missed]) -> Result:
    job = Job(
        id="job", model="sketch", task="generate", prompt=draft.prompt, width=128, height=96,
        steps=12, guidance=3.0, seeds=tuple(range(draft.n)),
    )  # fmt: skip
    notices = (*draft.ignored, RESOLVED)
    return Result(
        id="img-1",
        created=1_700_000_000,
        order=Order(draft=draft, job=job, output=Size(64, 48), notices=notices),
        painted=tuple(update for update in updates if isinstance(update, Painted)),
        missed=tuple(update for update in updates if isinstance(update, Missed)),
        inputs=tuple(Size(40, 30) for _ in draft.images),
        notices=notices,
        seconds={"queue": 0.00012345, "paint": 1.0, "total": 1.1},
    )


class Stand:
    """The service that the one app of these tests has; it holds an easel."""

    easel: Easel

    def expect(self, model: str, canvases: int) -> None:
        self.easel.expect(model, canvases)

    def paint(self, draft: Draft) -> AbstractAsyncContextManager[AsyncIterator[Update]]:
        return self.easel.paint(draft)


class Eyes:
    """Decoders that believe what a file's first bytes say."""

    async def open(self, data: bytes, *, param: str) -> Opened:
        if not data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"RIFF")):
            raise BadImage("not a PNG, JPEG or WebP image", param=param)
        return Opened(Image(1, 1, "RGB", b"abc"), flattened=False)


STAND = Stand()


def front(painter: Painter) -> Front:
    """What dialects are built on, with one model that can do everything."""
    room = tempfile.mkdtemp(prefix="limner-artifacts-")
    return Front(
        painter=painter,
        catalog=Catalog.of(CONFIG),
        limits=LIMITS,
        uploads=Uploads(LIMITS.image_bytes),
        artifacts=Artifacts(
            Shelf(Path(room).as_uri(), ""), lambda: ["secret"], hours=24, quota=10**8
        ),
        decoders=Eyes(),
        jobs=Store(Database(Path(room) / "limner.db"), days=1, keep_prompts=False),
        errands=Errands(),
        public_url="",
        started=1,
    )


APP = aimo.build(front(STAND))


def asked(app: ASGIApp, method: str, path: str, **how: Any) -> httpx2.Response:
    """One request to an application."""

    async def talk() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **how)

    return asyncio.run(talk())


def send(
    path: str, easel: Easel | None = None, *, method: str = "POST", **how: Any
) -> httpx2.Response:
    """One request to the application, answered by this easel."""
    STAND.easel = easel or Easel()
    return asked(APP, method, path, **how)


def generate(body: dict[str, Any], easel: Easel | None = None) -> httpx2.Response:
    return send("/image/generate", easel, json=body)


def edit(body: dict[str, Any], easel: Easel | None = None) -> httpx2.Response:
    return send("/image/edit", easel, json=body)


def understood(body: dict[str, Any]) -> Draft:
    easel = Easel()
    path = "/image/edit" if "images" in body else "/image/generate"
    answer = send(path, easel, json=body)
    assert answer.status_code == 200, answer.text
    return easel.drafts[0]


def every_refusal(kind: type[Refusal] = Refusal) -> list[type[Refusal]]:
    """This kind of refusal, and all below it, but for those of tests."""
    ours = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(each for child in ours for each in every_refusal(child))]


def told(answer: httpx2.Response, status: int = 400, *codes: str) -> str:
    """The message, after checking what every refusal of this dialect has in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) <= 2048
    assert answer.content.isascii()
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"code", "message"}
    assert body["error"]["code"] in (codes or ("invalid_request",))
    return body["error"]["message"]


def events(answer: httpx2.Response) -> list[Any]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(line.startswith("data: {") for line in lines[:-2])
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
