"""The Depicta dialect: pictures from JSON or forms, answered as signed links; uploads and jobs.

What a request means is in `depicta_drafts`, what an answer says in `depicta_answers`. Knows nothing
of other dialects, nor of how pictures are made.
"""

import asyncio
from typing import TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.dialects import depicta_pages as pages
from server.dialects.depicta_answers import (
    JOB_ID,
    Kept,
    Link,
    generation,
    hyphened,
    job,
    moment,
    plain_id,
    render_error,
)
from server.dialects.depicta_drafts import Asked, Operation, chosen, read, to_draft
from server.dialects.depicta_painting import Painting
from server.dialects.depicta_replays import Flight, Flights, Once, answered, once
from server.dialects.depicta_shapes import Combine, Document, Edit, Generate
from server.edge import forms, web
from server.edge.delivery import left, unless_gone
from server.edge.front import Front
from server.errors import BadRequest, Expired, NotFound, Refusal
from server.history.records import Record
from server.inputs.uploads import Uploads
from server.jobs.intake import Draft
from server.jobs.listing import NOTHING
from server.results.artifacts import Artifact

T = TypeVar("T")

OPENING = 1  # uploads looked at at once: each is in memory at full size
LISTED, MOST = 50, 200  # jobs of a list, unless it is asked for fewer or more
FARTHEST = 1000
PROFILE = {"user": {"email": "", "balance_eur": NOTHING, "held_eur": NOTHING}}
KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
OPERATIONS: tuple[tuple[Operation, type[Generate]], ...] = (
    ("generate", Generate),
    ("edit", Edit),
    ("combine", Combine),
)


class Depicta:
    """The routes, without what the framework wants to know of them."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._uploads = front.uploads.within(front.limits.upload_bytes)
        self._flights = Flights()
        self._opening = asyncio.Semaphore(OPENING)

    # -- Painting ---------------------------------------------------------------------------------

    async def generation(
        self, request: Request, operation: Operation, wire: type[Generate]
    ) -> Response:
        """Paint, or give the answer again that the same request had."""
        asked = await read(request, operation, wire, self._front)
        key = once(request, asked.fingerprint())
        with self._flights.of(key) as flight:
            if key and (again := self._again(request, await answered(key, self._front.jobs))):
                return again
            return await self._painted(request, asked, key, flight)

    def _again(self, request: Request, found: Record | None) -> Response | None:
        """The answer with links signed anew; None without one, or if its files are gone."""
        kept = Kept.of(found) if found else None
        try:
            return self._answer(request, kept) if kept else None
        except Expired:
            return None

    async def _painted(
        self, request: Request, asked: Asked, key: Once | None, flight: Flight
    ) -> Response:
        painting = Painting(self._front, asked, key)
        try:
            draft = await self._draft(asked)
            flight.task = self._front.errands.start(painting.run(draft))
            kept = await unless_gone(_shielded(flight.task), left(request.receive))
        except Refusal as refusal:
            if refusal.param:
                name = asked.theirs(refusal.param)
                refusal.message, refusal.param = web.renamed(refusal, name), name
            answer = render_error(refusal)
            if painting.id:
                answer.headers[JOB_ID] = hyphened(painting.id)
            return answer
        return self._answer(request, kept)

    def _answer(self, request: Request, kept: Kept) -> Response:
        return JSONResponse(generation(kept, self._link(request)), headers=kept.headers())

    async def _draft(self, asked: Asked) -> Draft:
        model = chosen(asked, self._front.catalog)
        self._front.painter.expect(model.id, asked.shape.n or 1)  # before images are got in vain
        return await to_draft(asked, model, self._uploads)

    def _link(self, request: Request) -> Link:
        return lambda artifact: self._front.url(request, artifact)

    # -- Uploads ----------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        """Keep an image, to be named by its link in requests to come."""
        limit = self._front.limits.upload_bytes
        form = await forms.read(request, min(self._front.limits.body_bytes, limit + web.CHUNK))
        data = form.one("image")
        if data is None:
            raise BadRequest("image: a file is required", param="image")
        artifact = await self._keep(Uploads(limit).checked(data, "image"))
        url = self._front.url(request, artifact)
        body = {"upload_url": url.text, "image_url": url.text, "expires_at": moment(url.expires)}
        others = sorted((form.files.keys() | form.texts.keys()) - {"image"})
        return JSONResponse(body, headers=web.warning_header(web.unknown(others)))

    async def _keep(self, data: bytes) -> Artifact:
        async with self._opening:
            await self._front.decoders.open(data, param="image")
        mime = next(mime for start, mime in KINDS.items() if data.startswith(start))
        return await self._front.artifacts.put(data, mime)

    # -- What there is ----------------------------------------------------------------------------

    async def job(self, request: Request, name: str) -> Document:
        """One job."""
        found = await self._front.jobs.get(plain_id(name))
        if found is None or found.dialect != "depicta":
            raise NotFound("there is no such job")
        return job(found, self._link(request))

    async def jobs(self, request: Request) -> Document:
        """The newest jobs."""
        most = _number(request, "limit", LISTED, 1, MOST)
        skip = _number(request, "offset", 0, 0, FARTHEST)
        found = await self._front.jobs.latest("depicta", most, skip)
        return {"generations": [job(each, self._link(request)) for each in found]}


async def _shielded(task: asyncio.Task[T]) -> T:
    return await asyncio.shield(task)


def _number(request: Request, name: str, usual: int, low: int, high: int) -> int:
    """A number in the query."""
    text = request.query_params.get(name, str(usual))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
        raise BadRequest(f"{name}: must be a number from {low} to {high}", param=name)
    return int(text)


def build(front: Front) -> FastAPI:
    """The application, to be mounted at `/v1` and `/depicta/v1`; its docs are at `/docs`."""
    app = FastAPI(
        title="limner: Depicta dialect", version="1", redoc_url=None, redirect_slashes=False
    )
    web.install(app, render_error)
    desk = Depicta(front)

    def painting(operation: Operation, wire: type[Generate]) -> None:
        async def paint(request: Request) -> Response:
            return await desk.generation(request, operation, wire)

        paint.__doc__ = pages.SAID[operation]
        app.add_api_route(
            f"/{operation}/image",
            paint,
            methods=["POST"],
            operation_id=f"{operation}Image",
            responses=pages.GENERATION,
            openapi_extra=pages.taken(operation, wire, front.catalog),
        )

    async def upload(request: Request) -> Response:
        """Keep an image, to be named by its link in requests to come."""
        return await desk.upload(request)

    async def models() -> JSONResponse:
        """The models."""
        return JSONResponse(front.models())

    async def jobs(request: Request) -> JSONResponse:
        """The newest jobs, the newest first."""
        return JSONResponse(await desk.jobs(request))

    async def job(request: Request) -> JSONResponse:
        """One job, with its result once it is completed."""
        return JSONResponse(await desk.job(request, request.path_params["id"]))

    async def profile() -> JSONResponse:
        """Nothing is owed, and nothing is needed: painting is free."""
        return JSONResponse(PROFILE)

    for operation, wire in OPERATIONS:
        painting(operation, wire)
    app.add_api_route(
        "/upload", upload, methods=["POST"], responses=pages.UPLOAD, openapi_extra=pages.UPLOADED
    )
    app.add_api_route("/models", models, methods=["GET"])
    app.add_api_route(
        "/jobs",
        jobs,
        methods=["GET"],
        responses=pages.JOBS,
        openapi_extra=pages.paged(LISTED, MOST, FARTHEST),
    )
    app.add_api_route(
        "/jobs/{id}", job, methods=["GET"], responses=pages.JOB, openapi_extra=pages.ONE
    )
    app.add_api_route("/account/profile", profile, methods=["GET"], responses=pages.PROFILE)
    return app
