"""Depicta's application before a painter by script, and one-request helpers for its tests."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2

from models.contract import Job
from server.dialects import depicta
from server.edge.gate import Journal
from server.errors import OutOfMemory
from server.history.store import Store
from server.images.pictures import Picture
from server.jobs.catalog import Catalog
from server.jobs.intake import Draft, Order
from server.jobs.recorder import Entry, Telling
from server.jobs.service import Admitted, Missed, Painted, Progress, Result, Update
from server.settings.tables import Config, LimitsTable
from server.sizes import Size
from tests.server.dialects.easel import RESOLVED, URL, Easel, asked, front

CONFIG = Config.model_validate(
    {
        "model": [
            {"id": "paints", "family": "toy", "native": ["64x64"], "tasks": ["generate"]},
            {"id": "mends", "family": "toy", "native": ["96x64"], "tasks": ["edit"]},
            {"id": "sketch", "family": "toy", "native": ["64x64"], "max_inputs": 3},
        ],
        "alias": [{"model": "sketch", "names": ["flux-pro"]}],
    }
)
LIMITS = LimitsTable(body_bytes=200_000, image_bytes=60_000, upload_bytes=50_000)
PROMPT = {"prompt": "a red circle"}
GENERATE, EDIT, COMBINE = "/generate/image", "/edit/image", "/combine/image"
BODIES: dict[str, dict[str, Any]] = {
    GENERATE: PROMPT,
    EDIT: PROMPT | {"input_image_url": URL},
    COMBINE: PROMPT | {"input_image_urls": [URL, URL]},
}


class Gallery(Easel):
    """Paints by script, and tells a store of it; `wait` holds it up, `raises` is thrown midway."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.wait: asyncio.Event | None = None
        self.raises: Exception | None = None

    def expect(self, model: str, canvases: int) -> None:
        pass

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        self.drafts.append(draft)
        name = uuid.uuid4().hex
        job = Job(
            id=name, model=draft.model, task=draft.task, prompt=draft.prompt, width=64, height=64,
            steps=4, guidance=1.0, seeds=tuple(range(5, 5 + draft.n)),
        )  # fmt: skip
        notices = (*draft.ignored, RESOLVED)
        order = Order(draft=draft, job=job, output=Size(64, 64), notices=notices)
        with Telling([self.store], Entry.of(order), "local") as telling:
            yield self._painting(order, telling)

    async def _painting(self, order: Order, telling: Telling) -> AsyncIterator[Update]:
        job = order.job
        painted: list[Painted] = []
        missed: list[Missed] = []
        yield Admitted(job.id, 1, order.notices)
        telling.progressed(0, 1, 4)
        yield Progress(0, 1, 4, None)
        if self.wait:
            await self.wait.wait()
        if self.raises:
            raise self.raises
        for index in range(order.draft.n):
            if index in self.misses:
                missed.append(Missed(index, OutOfMemory("too large", retry_after=3)))
            else:
                kinds = (order.draft.output_format, *order.draft.also)
                files = [Picture(b"%s %d" % (k.encode(), index), k, 64, 64) for k in kinds]
                painted.append(Painted(index, job.seeds[index], files[0], tuple(files[1:])))
                telling.painted(index)
        telling.resulted([each.refusal for each in missed], {})
        yield Result(
            id=job.id, created=1, order=order, painted=tuple(painted), missed=tuple(missed),
            inputs=(), notices=order.notices, seconds={"queue": 0.1, "paint": 0.2},
        )  # fmt: skip


class Exhibition:
    """The application, its painter and its front."""

    def __init__(self) -> None:
        self.front = replace(
            front(None),
            catalog=Catalog.of(CONFIG),
            limits=LIMITS,
        )
        assert isinstance(self.front.jobs, Store)
        self.gallery = Gallery(self.front.jobs)
        self.front = replace(self.front, painter=self.gallery)
        self.app = Journal(depicta.build(self.front))

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://test")

    def send(self, path: str, method: str = "POST", **how: Any) -> httpx2.Response:
        """One request."""
        return asked(self.app, method, path, **how)

    def get(self, path: str, **how: Any) -> httpx2.Response:
        return self.send(path, "GET", **how)

    def asked(self, path: str, **more: Any) -> httpx2.Response:
        """A request that is right, but for these fields."""
        return self.send(path, json=BODIES[path] | more)

    def understood(self, path: str, **more: Any) -> Draft:
        answer = self.asked(path, **more)
        assert answer.status_code == 200, answer.text
        return self.gallery.drafts[-1]

    def file(self, url: str) -> bytes:
        """What a link leads to, without asking over HTTP."""
        found = asyncio.run(self.front.artifacts.behind(url))
        assert found is not None
        return found


def told(answer: httpx2.Response, status: int, code: str) -> dict[str, str]:
    """The details, after checking what every refusal of this dialect has in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) <= 2048
    assert answer.content.isascii()
    body = answer.json()
    assert body["error"] == code, body
    assert body["request_id"] == f"req_{answer.headers['x-request-id']}"
    assert isinstance(body["message"], str)
    assert body.keys() - {"details"} == {"error", "message", "request_id"}
    details = body.get("details", {})
    assert bool(details) == (code == "validation_error")
    assert all(isinstance(reason, str) and reason for reason in details.values())
    return details
