"""The OpenAI dialect: `/images/generations`, `/images/edits`, `/images/variations`, `/models`.

The routes: bodies → shapes → answers. Knows nothing of other dialects, nor of how pictures are
made.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.dialects import openai_answers as answers
from server.dialects.openai_drafts import STYLES, as_links, model_of, to_draft
from server.dialects.openai_shapes import (
    MAX_IMAGES,
    Answer,
    Edit,
    EditJson,
    Error,
    Generate,
    ImageSource,
    Options,
    Prompted,
    Row,
    Rows,
    Variation,
)
from server.edge import forms, web
from server.edge.delivery import Conversation, EventStream, JsonAnswer, left, unless_gone
from server.edge.description import EVENT, FILE, as_form, schema_of, takes
from server.edge.forms import Form
from server.edge.front import Front
from server.errors import BadRequest, UnsupportedMedia
from server.images import inline
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog
from server.jobs.intake import Draft
from server.jobs.listing import row
from server.jobs.service import Admitted, Result, outcome

ShapeT = TypeVar("ShapeT", bound=Options)
Responses: TypeAlias = dict[int | str, dict[str, Any]]
Handler: TypeAlias = Callable[..., Awaitable[Response]]

# -- Images ---------------------------------------------------------------------------------------


def _files(form: Form, uploads: Uploads, most: int) -> tuple[bytes, ...]:
    """The images of a form.

    Raises:
        BadRequest: there are none, or too many. BadImage, TooLarge: one of them is no file.
    """
    for name in ("image", "mask"):
        if name in form.texts:
            raise BadRequest(f"{name}: a file is expected, not text", param=name)
    found = form.files.get("image", [])
    if not 1 <= len(found) <= most:
        wanted = "is required" if not found else f"at most {most} are taken, not {len(found)}"
        raise BadRequest(f"image: {wanted}", param="image")
    names = ["image"] if len(found) == 1 else [f"image[{i}]" for i in range(len(found))]
    return tuple(uploads.checked(data, name) for data, name in zip(found, names, strict=True))


def _mask(form: Form, uploads: Uploads) -> bytes | None:
    mask = form.one("mask")
    return None if mask is None else uploads.checked(mask, "mask")


async def _linked(source: ImageSource, where: str, uploads: Uploads) -> bytes:
    return await uploads.url(source.image_url, f"{where}.image_url")


# -- Answering ------------------------------------------------------------------------------------


async def _plain(front: Front, request: Request, draft: Draft, links: bool) -> Response:
    result = await outcome(front.painter, draft)
    delivered: list[answers.Document] = []
    for painted in result.painted:
        picture = painted.picture
        if links:
            artifact = await front.artifacts.put(picture.data, picture.mime)
            delivered.append({"url": front.url(request, artifact).text})
        else:
            delivered.append({"b64_json": inline.Base64(picture)})
    headers = web.warning_header(answers.warnings(result)) | web.timing_header(result.seconds)
    return JsonAnswer(answers.render(result, delivered), headers=headers)


def _streamed(front: Front, draft: Draft, partials: int) -> Response:
    kind = "image_edit" if draft.task == "edit" else "image_generation"

    async def talk(stream: EventStream) -> None:
        events = answers.Events(kind, draft, partials)
        async with front.painter.paint(draft) as updates:
            async for update in updates:
                if isinstance(update, Admitted):
                    await stream.open(web.warning_header(answers.named(update.notices, draft)))
                for event in events.of(update):
                    await stream.event(event, event["type"])
                if isinstance(update, Result) and update.missed:
                    raise update.missed[0].refusal

    return Conversation(talk, answers.error_document)


class Dialect:
    """The handlers, on what every dialect is built on."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def generations(self, request: Request) -> Response:
        """Paint images from a prompt."""
        shape = await web.read(request, Generate, self._front.limits.body_bytes)
        self._expect(request, shape)
        return await self._answer(request, shape)

    async def edits(self, request: Request) -> Response:
        """Repaint an image, or what is transparent in a mask; as a form, or as JSON."""
        if not forms.is_form(request):
            return await self._edits_in_json(request)
        form = await forms.read(request, self._front.limits.body_bytes)
        shape = _shaped(form, Edit)
        self._expect(request, shape, masked="mask" in form.files)
        uploads = self._front.uploads
        images = _files(form, uploads, MAX_IMAGES)
        form.expect_files("image[]", "mask")
        return await self._answer(request, shape, images, _mask(form, uploads))

    async def _edits_in_json(self, request: Request) -> Response:
        shape = await web.read(request, EditJson, self._front.limits.body_bytes)
        self._expect(request, shape, masked=shape.mask is not None)
        uploads = self._front.uploads
        images = [
            await _linked(each, f"images[{i}]", uploads) for i, each in enumerate(shape.images)
        ]
        mask = await _linked(shape.mask, "mask", uploads) if shape.mask else None
        return await self._answer(request, shape, tuple(images), mask)

    async def variations(self, request: Request) -> Response:
        """Repaint an image without being told what."""
        if not forms.is_form(request):
            raise UnsupportedMedia(f"Content-Type must be {forms.KIND}")
        form = await forms.read(request, self._front.limits.body_bytes)
        shape = _shaped(form, Variation)
        self._expect(request, shape)
        images = _files(form, self._front.uploads, 1)
        form.expect_files("image")
        return await self._answer(request, shape, images)

    def _expect(self, request: Request, shape: Options, *, masked: bool = False) -> None:
        """Refuse what will not be admitted, before images are got and opened for nothing."""
        streamed = isinstance(shape, Prompted) and shape.stream
        if streamed and request.scope["http_version"] == "1.0":
            raise BadRequest("stream: HTTP/1.0 has no way to send events", param="stream")
        model = model_of(shape, self._front.catalog, masked=masked)
        self._front.painter.expect(model, shape.n or 1)

    async def _answer(
        self,
        request: Request,
        shape: Options,
        images: tuple[bytes, ...] = (),
        mask: bytes | None = None,
    ) -> Response:
        draft = to_draft(shape, self._front.catalog, images, mask)
        if isinstance(shape, Prompted) and shape.stream:
            return _streamed(self._front, draft, shape.partial_images or 0)
        answer = _plain(self._front, request, draft, as_links(shape))
        return await unless_gone(answer, left(request.receive))

    async def models(self, request: Request) -> JSONResponse:
        """The models; `?type=image` or `inpaint` are those that paint, or edit."""
        return JSONResponse(self._front.models(request.query_params.get("type") or "all"))

    async def model(self, request: Request) -> JSONResponse:
        """One model, by its id or an alias."""
        front = self._front
        offering = front.catalog.find(request.path_params["model"])
        told = row(front.catalog, offering, front.started, front.limits.prompt_chars)
        return JSONResponse(told)


def _shaped(form: Form, shape: type[ShapeT]) -> ShapeT:
    """The text fields; those that were left empty are none."""
    texts = {name: [text for text in texts if text] for name, texts in form.texts.items()}
    return Form({name: said for name, said in texts.items() if said}).shaped(shape)


# -- The application ------------------------------------------------------------------------------

ERRORS = {
    400: "A field is missing, malformed or out of range, or an image or a mask is none.",
    403: "Host or Origin is not allowed.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body, or an image in it, is too large.",
    415: "The body is of another type.",
    422: "No model that is set up can do this.",
    500: "Something broke inside the server.",
    503: "Not now; Retry-After says when, if that is known.",
}
REFUSED: Responses = {
    status: {"model": Error, "description": text} for status, text in ERRORS.items()
}
PAINTED: Responses = {200: {"model": Answer, "description": "The pictures, in base64 or as links."}}
STREAMED: Responses = {
    200: {
        "model": Answer,
        "description": "JSON; with `stream: true` events named as their `type`, the last one "
        "`data: [DONE]`.",
        "content": {"text/event-stream": {"schema": EVENT}},
    }
}


def _generations(catalog: Catalog) -> dict[str, Any]:
    """The `openapi_extra` of generations, with the styles that there are."""
    schema = schema_of(Generate)
    styles = [*STYLES, *(each.name for each in catalog.styles), None]
    schema["properties"]["style"] = {"enum": styles, "default": None}
    return takes(schema)


MANY = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_IMAGES}
EDITED = as_form(schema_of(Edit), {"image": MANY, "mask": FILE}, optional=("mask",))
VARIED = as_form(schema_of(Variation), {"image": FILE})


def build(front: Front) -> FastAPI:
    """The application, to be mounted at `/v1` and `/openai/v1`; its docs are at `/docs`."""
    app = FastAPI(
        title="limner: OpenAI dialect", version="1", redoc_url=None, redirect_slashes=False
    )
    web.install(app, answers.render_error)
    dialect = Dialect(front)

    def post(path: str, handler: Handler, answered: Responses, taken: Any) -> None:
        app.add_api_route(
            path, handler, methods=["POST"], responses=answered | REFUSED, openapi_extra=taken
        )

    def get(path: str, handler: Handler, answered: type[Row | Rows], taken: Any) -> None:
        said: Responses = {200: {"model": answered}, 403: REFUSED[403], 404: REFUSED[404]}
        extra = {"parameters": [taken | {"schema": {"type": "string"}}]}
        app.add_api_route(path, handler, methods=["GET"], responses=said, openapi_extra=extra)

    edits = takes(schema_of(EditJson), EDITED)
    post("/images/generations", dialect.generations, STREAMED, _generations(front.catalog))
    post("/images/edits", dialect.edits, STREAMED, edits)
    post("/images/variations", dialect.variations, PAINTED, takes(form=VARIED))
    get("/models", dialect.models, Rows, {"name": "type", "in": "query"})
    named = {"name": "model", "in": "path", "required": True}
    get("/models/{model:path}", dialect.model, Row, named)
    return app
