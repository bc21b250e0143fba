"""The AIMO dialect: `POST /image/generate` and `/image/edit`, JSON in; JSON, a file, events out.

Shapes → `Draft`, updates → answers. Knows nothing of other dialects, nor of how pictures are made.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.dialects.aimo_shapes import Answer, Edit, Error, Generate, ImageSource
from server.edge import fields, web
from server.edge.delivery import Conversation, EventStream, JsonAnswer, left, unless_gone
from server.edge.description import EVENT, schema_of, takes
from server.edge.front import Front
from server.errors import BadRequest, Refusal
from server.images import inline
from server.images.pictures import Picture
from server.inputs.uploads import Uploads
from server.jobs.intake import Draft, Notice
from server.jobs.service import Admitted, Missed, Painted, Painter, Progress, Result, outcome

# What comes later, and what happens until then.
NOT_YET = {
    "safe_mode": "images are not judged yet",
    "watermark": "no watermark can be applied yet",
    "prompt_extend": "the prompt is used as it is",
    "enable_web_search": "no web search is made",
}
# Where the house has another word for a field.
OURS = {"guidance": "guide_scale", "embed_metadata": "embed_exif_metadata"}


async def to_draft(shape: Generate, uploads: Uploads) -> Draft:
    """What the client meant.

    Raises:
        BadRequest, BadImage, TooLarge: fields that contradict each other, images that are none.
    """
    _expect_coherent(shape)
    edit = shape if isinstance(shape, Edit) else None
    return Draft(
        dialect="aimo",
        task="edit" if edit else "generate",
        model=shape.model,
        prompt=shape.prompt,
        negative_prompt=shape.negative_prompt or "",
        n=shape.n or 1,
        width=shape.width,
        height=shape.height,
        aspect_ratio=shape.aspect_ratio,
        resolution=shape.resolution,
        seed=None if shape.seed == -1 else shape.seed,
        steps=shape.steps,
        guidance=shape.guide_scale,
        strength=edit.strength if edit else None,
        quality=None if shape.quality == "auto" else shape.quality,
        style=shape.style,
        style_preset=shape.style_preset,
        lora_strength=shape.lora_strength,
        images=await _images(edit, uploads),
        mask=await _bytes(edit.mask, "mask", uploads) if edit and edit.mask else None,
        output_format=shape.output_format or "png",
        embed_metadata=bool(shape.embed_exif_metadata),
        preview=bool(shape.stream),
        strict=bool(shape.strict),
        user=shape.user,
        metadata=shape.metadata or {},
        ignored=tuple(_ignored(shape)),
    )


def _expect_coherent(shape: Generate) -> None:
    if shape.output_type != "file":
        return
    if (shape.n or 1) > 1:
        raise BadRequest("output_type: file is only possible with n = 1", param="output_type")
    if shape.stream:
        raise BadRequest("output_type: file is not possible with stream", param="output_type")


async def _images(edit: Edit | None, uploads: Uploads) -> tuple[bytes, ...]:
    sources = edit.images if edit else ()
    return tuple([await _bytes(each, f"images[{i}]", uploads) for i, each in enumerate(sources)])


async def _bytes(source: ImageSource, where: str, uploads: Uploads) -> bytes:
    match source.b64, source.url:
        case str(text), None:
            return await uploads.base64(text, f"{where}.b64")
        case None, str(text):
            return await uploads.url(text, f"{where}.url")
        case _:
            raise BadRequest(f"{where}: exactly one of b64 and url is required", param=where)


def _ignored(shape: Generate) -> Iterator[Notice]:
    for name, meanwhile in NOT_YET.items():
        if getattr(shape, name):
            yield Notice(name, f"not available yet: {meanwhile}")
    yield from web.unknown([*_unknown(shape)])


def _unknown(shape: Generate) -> Iterator[str]:
    yield from fields.unknown_keys(shape)
    if isinstance(shape, Edit):
        for i, source in enumerate(shape.images):
            yield from (f"images[{i}].{key}" for key in fields.unknown_keys(source))
        if shape.mask:
            yield from (f"mask.{key}" for key in fields.unknown_keys(shape.mask))


# -- Rendering -------------------------------------------------------------------------------------

Document: TypeAlias = dict[str, Any]


def render_error(refusal: Refusal) -> Response:
    """A refusal as AIMO's clients read it."""
    return web.refuse(refusal, error_document(refusal))


def error_document(refusal: Refusal) -> Document:
    """`{"error": {"code", "message"}}`, the field named as AIMO names it."""
    param = OURS.get(refusal.param or "", refusal.param)
    return {"error": {"code": refusal.code, "message": web.message_of(refusal, param)}}


def render(result: Result) -> Document:
    """The whole answer. Some of n missed: `failed`, with the error of the first of them."""
    document: Document = {
        "id": result.id,
        "created": result.created,
        "status": "failed" if result.missed else "completed",
        "images": [_delivered(painted) for painted in result.painted],
    }
    if result.order.draft.task == "edit":
        document["input_images"] = [
            {"width": size.width, "height": size.height} for size in result.inputs
        ]
    if result.missed:
        document["error"] = error_document(result.missed[0].refusal)
    return document | _provider(_raw(result))


def _delivered(painted: Painted) -> Document:
    return _picture(painted.index, painted.picture) | {"seed": painted.seed}


def _picture(index: int, picture: Picture) -> Document:
    return {
        "index": index,
        "data_url": inline.DataUrl(picture),
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
    }


def _provider(raw: Mapping[str, Any]) -> Document:
    return {"provider_metadata": {"provider": "limner", "raw": raw}}


def _raw(result: Result) -> Document:
    job = result.order.job
    return {
        "model": job.model,
        "steps": job.steps,
        "guide_scale": job.guidance,
        "paint_size": {"width": job.width, "height": job.height},
        "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        "missed": [missed.index for missed in result.missed],
        "warnings": [
            {"param": notice.param, "message": notice.message}
            for notice in _named(result.notices, result.order.draft)
        ],
        "metadata": result.order.draft.metadata,
    }


def _named(notices: tuple[Notice, ...], draft: Draft) -> list[Notice]:
    return web.named(notices, draft.ignored, lambda param: OURS.get(param, param))


def _progress(progress: Progress, previews: dict[int, int]) -> Document:
    raw = {"index": progress.index, "step": progress.step, "steps": progress.steps}
    document: Document = {"images": []}
    if progress.preview:
        partial = previews.get(progress.index, -1) + 1
        previews[progress.index] = partial
        document["images"] = [_picture(progress.index, progress.preview)]
        document["partial_image_index"] = partial
    return document | _provider(raw)


def _finished(painted: Painted) -> Document:
    raw = {"index": painted.index}
    return {"images": [_delivered(painted)]} | _provider(raw)


# -- Answering ------------------------------------------------------------------------------------


async def _plain(painter: Painter, draft: Draft, as_file: bool) -> Response:
    result = await outcome(painter, draft)
    headers = web.warning_header(_named(result.notices, draft)) | web.timing_header(result.seconds)
    if not as_file:
        return JsonAnswer(render(result), headers=headers)
    first = result.painted[0]
    headers |= {"X-Limner-Seed": str(first.seed), "X-Limner-Id": result.id}
    return Response(first.picture.data, headers=headers, media_type=first.picture.mime)


def _streamed(painter: Painter, draft: Draft) -> Response:
    async def talk(stream: EventStream) -> None:
        previews: dict[int, int] = {}
        same: Document = {}  # what every event says alike
        async with painter.paint(draft) as updates:
            async for update in updates:
                match update:
                    case Admitted(name, created, notices):
                        same = {"id": name, "created": created, "status": "processing"}
                        await stream.open(web.warning_header(_named(notices, draft)))
                    case Progress():
                        await stream.event(same | _progress(update, previews))
                    case Painted():
                        await stream.event(same | _finished(update))
                    case Result():
                        await stream.event(render(update.or_refusal()))
                    case Missed():
                        pass  # the last event says so

    return Conversation(talk, error_document)


BALANCE = {"caip_account_id": "", "balance_micro_usdc": 0, "balance_usd": "0.000000"}
PICTURE = {"schema": {"type": "string", "format": "binary"}}
ERRORS = {
    400: "A field is missing, malformed or out of range, or an image is none.",
    403: "Host or Origin is not allowed.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body, or an image in it, is too large.",
    415: "The body is not JSON.",
    422: "No model that is set up can do this.",
    500: "Something broke inside the server.",
    503: "Not now; Retry-After says when, if that is known.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Answer,
        "description": "JSON; the file with `output_type: file`; events with `stream: true`, each "
        "`data: <Answer>` or `data: <Error>`, the last one `data: [DONE]`.",
        "content": {
            "text/event-stream": {"schema": EVENT},
            "image/png": PICTURE,
            "image/jpeg": PICTURE,
            "image/webp": PICTURE,
        },
    },
    **{status: {"model": Error, "description": text} for status, text in ERRORS.items()},
}


def build(front: Front) -> FastAPI:
    """The application, to be mounted at `/api/v1` and `/aimo/api/v1`; its docs are at `/docs`."""
    app = FastAPI(
        title="limner: AIMO dialect",
        version="1",
        redoc_url=None,
        redirect_slashes=False,
    )
    web.install(app, render_error)

    painter = front.painter

    async def answer(request: Request, wire: type[Generate]) -> Response:
        shape = await web.read(request, wire, front.limits.body_bytes)
        if shape.stream and request.scope["http_version"] == "1.0":
            raise BadRequest("stream: HTTP/1.0 has no way to send events", param="stream")
        painter.expect(shape.model, shape.n or 1)  # before images are decoded for nothing
        draft = await to_draft(shape, front.uploads)
        if shape.stream:
            return _streamed(painter, draft)
        as_file = shape.output_type == "file"
        return await unless_gone(_plain(painter, draft, as_file), left(request.receive))

    async def generate(request: Request) -> Response:
        """Paint images from a prompt."""
        return await answer(request, Generate)

    async def edit(request: Request) -> Response:
        """Repaint an image, or the part of it that a mask marks."""
        return await answer(request, Edit)

    async def models() -> JSONResponse:
        """The models, with what each of them takes."""
        return JSONResponse(front.models())

    async def balance() -> JSONResponse:
        """Nothing is owed, and nothing is needed: painting is free."""
        return JSONResponse(BALANCE)

    app.add_api_route("/models", models, methods=["GET"])
    app.add_api_route("/session/balance", balance, methods=["GET"])
    for path, route, shape in (("generate", generate, Generate), ("edit", edit, Edit)):
        app.add_api_route(
            f"/image/{path}",
            route,
            methods=["POST"],
            responses=RESPONSES,
            openapi_extra=takes(schema_of(shape)),
        )
    return app
