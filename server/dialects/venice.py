"""The Venice dialect: `/image/…`, `/images/generations` and `/models…`; JSON or forms in, mostly
raw pictures out.

Bodies → shapes, results → answers. Knows nothing of other dialects, nor of how pictures are made.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from server.dialects import venice_drafts as drafts
from server.dialects import venice_shapes as shapes
from server.dialects.venice_errors import PLAIN, Said, render
from server.dialects.venice_openapi import (
    ERRORS,
    Responses,
    answers,
    refusals,
    taken,
    taken_natively,
)
from server.edge import forms, web
from server.edge.delivery import JsonAnswer, left, unless_gone
from server.edge.front import Front
from server.errors import BadRequest, Refusal
from server.images import inline
from server.jobs.intake import Draft, Notice
from server.jobs.listing import mapping, traits
from server.jobs.service import Result, outcome

Document: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[Request], Awaitable[Response]]
ShapeT = TypeVar("ShapeT", bound=BaseModel)

ONE = Said({"images[0]": "image", "images": "image"}, unknown_model=400, forms=True)
OLDER = replace(ONE, names={**ONE.names, "model": "modelId"})
SEVERAL = Said({"model": "modelId"}, unknown_model=400, forms=True)
WORDED = Said({"width": "size", "height": "size"})  # in OpenAI's words
NATIVE = Said({"guidance": "cfg_scale", "n": "variants", "output_format": "format"})

# -- Reading --------------------------------------------------------------------------------------


async def read(request: Request, shape: type[ShapeT], limit: int, uploads: str) -> ShapeT:
    """The body, JSON or a form, as a shape; `uploads` is the field that files are of.

    Raises:
        Refusal: with the field at fault named.
    """
    if not forms.is_form(request):
        return await web.read(request, shape, limit)
    form = await forms.read(request, limit)
    for name in form.files:
        if name in form.texts:
            named = web.clipped(name, web.ECHO_CHARS)
            raise BadRequest(f"{named}: a text and a file cannot both be sent", param=named)
    return form.shaped(shape, _uploaded(form, uploads))


def _uploaded(form: forms.Form, name: str) -> Document:
    """The files by field, and a list for the field that is one, whatever it came as."""
    found: Document = {each: form.one(each) for each in form.files if each != name}
    if name == "images":
        listed = form.files.get(name) or form.texts.get(name)
        return found | ({name: listed} if listed else {})
    return found | ({name: form.one(name)} if name in form.files else {})


# -- Rendering ------------------------------------------------------------------------------------


def raw(result: Result, said: Said, headers: Mapping[str, str]) -> Response:
    """The first picture's bytes."""
    first = result.painted[0]
    head = {**_warned(result, said), **_always(result.id, result.seconds), **headers}
    return Response(first.picture.data, headers=head, media_type=first.picture.mime)


def _always(name: str, seconds: Mapping[str, float]) -> dict[str, str]:
    """What every answer with pictures says: when it was made, that nothing was blurred, its id, and
    where its time went."""
    return {
        "x-venice-timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "x-venice-is-blurred": "false",
        "x-venice-is-content-violation": "false",
        "X-Limner-Id": name,
        **web.timing_header(seconds),
    }


def _painter(result: Result) -> dict[str, str]:
    """Who painted, and from which seed."""
    model = result.order.job.model
    seed = str(result.painted[0].seed)
    return {"x-venice-model-id": model, "x-venice-model-name": model, "X-Limner-Seed": seed}


def _warned(result: Result, said: Said) -> dict[str, str]:
    missed = [
        Notice("n", f"image {each.index + 1} is missing: {each.refusal.message}")
        for each in result.missed
    ]
    own = result.order.draft.ignored
    return web.warning_header(web.named((*result.notices, *missed), own, said.name))


def seeds(shape: shapes.Generate, result: Result) -> list[int]:
    """Those of the pictures; a negative one comes back as it was given."""
    given = shape.seed if shape.seed is not None and shape.seed < -1 else None
    return [
        given if given is not None and each.index == 0 else each.seed for each in result.painted
    ]


def generated(shape: shapes.Generate, result: Result) -> Document:
    """The answer of `POST /image/generate`."""
    seconds = result.seconds
    spent = {"inferenceQueueTime": seconds["queue"], "inferenceDuration": seconds["paint"]}
    rest = max(0.0, seconds["total"] - sum(spent.values()))
    spent |= {"inferencePreprocessingTime": rest, "total": seconds["total"]}
    asked = shape.model_dump(exclude_none=True) | {"seed": seeds(shape, result)[0]}
    return {
        "id": f"generate-image-{result.id}",
        "images": [inline.Base64(each.picture) for each in result.painted],
        "timing": {name: round(value * 1000, 1) for name, value in spent.items()},
        "request": {"success": True, "data": asked},
    }


def created(shape: shapes.Generations, result: Result) -> Document:
    """The answer of `POST /images/generations`."""
    as_url = shape.response_format == "url"
    data = [
        {"url": inline.DataUrl(each.picture)}
        if as_url
        else {"b64_json": inline.Base64(each.picture)}
        for each in result.painted
    ]
    return {"created": result.created, "data": data}


# -- Answering ------------------------------------------------------------------------------------


class Routes:
    """Venice's operations, each a request in and an answer out."""

    def __init__(self, front: Front) -> None:
        self.front = front

    def refusing(self, refusal: Refusal, said: Said = PLAIN) -> Response:
        """The answer to a request that cannot be met."""
        return render(refusal, said, image_bytes=self.front.limits.image_bytes)

    def saying(self, said: Said, answer: Answer) -> Answer:
        """The operation, with its refusals in its own words."""

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except Refusal as refusal:
                return self.refusing(refusal, said)

        answered.__doc__, answered.__name__ = answer.__doc__, answer.__name__
        return answered

    async def _read(self, request: Request, shape: type[ShapeT], uploads: str = "") -> ShapeT:
        limit = self.front.limits.body_bytes
        if uploads:
            return await read(request, shape, limit, uploads)
        return await web.read(request, shape, limit)

    async def _painted(self, request: Request, draft: Draft) -> Result:
        return await unless_gone(outcome(self.front.painter, draft), left(request.receive))

    async def edit(self, request: Request) -> Response:
        """Repaint an image as the prompt says; the answer is the picture."""
        shape = await self._read(request, shapes.Edit, "image")
        named = shape.modelId if shape.model is None else shape.model
        said = ONE if named == shape.model else OLDER
        try:
            model = drafts.chosen(self.front.catalog, named, drafts.EDITOR, "edit")
            self.front.painter.expect(model, 1)  # before images are decoded for nothing
            result = await self._painted(request, await drafts.of_edit(shape, self.front, model))
        except Refusal as refusal:
            return self.refusing(refusal, said)
        return raw(result, said, _painter(result))

    async def multi_edit(self, request: Request) -> Response:
        """Repaint the first of several images; the answer is the picture."""
        shape = await self._read(request, shapes.MultiEdit, "images")
        model = drafts.chosen(self.front.catalog, shape.modelId, drafts.EDITOR, "edit")
        self.front.painter.expect(model, 1)
        draft = await drafts.of_multi_edit(shape, self.front, model)
        result = await self._painted(request, draft)
        return raw(result, SEVERAL, _painter(result))

    async def generate(self, request: Request) -> Response:
        """Paint images from a prompt; the answer is JSON, or the picture with `return_binary`."""
        shape = await self._read(request, shapes.Generate)
        self.front.painter.expect(shape.model, shape.variants or 1)
        draft = drafts.of_generate(shape, self.front.catalog)
        result = await self._painted(request, draft)
        told = _painter(result) | {"X-Limner-Seed": ", ".join(map(str, seeds(shape, result)))}
        if shape.return_binary:
            return raw(result, NATIVE, told)
        head = {**_warned(result, NATIVE), **_always(result.id, result.seconds), **told}
        return JsonAnswer(generated(shape, result), headers=head)

    async def generations(self, request: Request) -> Response:
        """Paint an image from a prompt, asked for in OpenAI's words."""
        shape = await self._read(request, shapes.Generations)
        draft = drafts.of_generations(shape, self.front.catalog)
        self.front.painter.expect(draft.model, 1)
        result = await self._painted(request, draft)
        head = {**_warned(result, WORDED), **_always(result.id, result.seconds), **_painter(result)}
        return JsonAnswer(created(shape, result), headers=head)

    async def upscale(self, request: Request) -> Response:
        """Enlarge an image; the answer is a PNG."""
        shape = await self._read(request, shapes.Upscale, "image")
        wish = await drafts.of_upscale(shape, self.front)
        larger = await unless_gone(self.front.painter.enlarge(wish), left(request.receive))
        told = web.warning_header(web.named(larger.notices, wish.ignored, ONE.name))
        head = told | _always(larger.id, larger.seconds)
        return Response(larger.picture.data, headers=head, media_type=larger.picture.mime)

    async def background_remove(self, request: Request) -> Response:
        """Cut out what an image shows."""
        shape = await self._read(request, shapes.Cutout, "image")
        wish = await drafts.of_cutout(shape, self.front.uploads)
        cut = await unless_gone(self.front.painter.cut_out(wish), left(request.receive))
        return Response(cut.data, media_type=cut.mime)

    async def styles(self) -> shapes.Styles:
        """What `style_preset` may name."""
        names = [style.name for style in self.front.catalog.styles]
        return shapes.Styles(object="list", data=names)

    def kinds(self, answer: Callable[[str], Document]) -> Callable[..., Awaitable[JsonAnswer]]:
        """A list that can be asked for one type of models."""

        async def listed(
            kind: Annotated[shapes.Kind, Query(alias="type")] = "all",
        ) -> JsonAnswer:
            return JsonAnswer(answer(kind))

        return listed

    def traits(self, kind: str) -> Document:
        """Models by what they are known for."""
        return {"object": "list", "type": kind, "data": traits(self.front.catalog, kind)}

    def mapping(self, kind: str) -> Document:
        """Other names of models, and their ids."""
        return {"object": "list", "type": kind, "data": mapping(self.front.catalog, kind)}


def build(front: Front) -> FastAPI:
    """The application, to be mounted at `/api/v1` and `/venice/api/v1`; its docs are at `/docs`."""
    routes = Routes(front)
    app = FastAPI(
        title="limner: Venice dialect", version="1", redoc_url=None, redirect_slashes=False
    )
    web.install(app, routes.refusing)

    def post(path: str, said: Said, answer: Answer, takes: Document, gives: Responses) -> None:
        app.add_api_route(
            path,
            routes.saying(said, answer),
            methods=["POST"],
            response_class=Response,
            responses=gives,
            openapi_extra=takes,
        )

    every = ("png", "jpeg", "webp")
    edit, several = taken(shapes.Edit, "image"), taken(shapes.MultiEdit, "images")
    styles = [style.name for style in front.catalog.styles]
    native = answers(*every, body=shapes.Generated)
    post("/image/edit", ONE, routes.edit, edit, answers(*every))
    post("/image/multi-edit", SEVERAL, routes.multi_edit, several, answers(*every))
    post("/image/generate", NATIVE, routes.generate, taken_natively(styles), native)
    post("/image/upscale", ONE, routes.upscale, taken(shapes.Upscale, "image"), answers("png"))
    post(
        "/image/background-remove",
        ONE,
        routes.background_remove,
        taken(shapes.Cutout, "image"),
        refusals(*ERRORS),
    )
    post(
        "/images/generations",
        WORDED,
        routes.generations,
        taken(shapes.Generations),
        answers(body=shapes.Created),
    )
    _lists(app, routes)
    return app


def _lists(app: FastAPI, routes: Routes) -> None:
    def get(path: str, answer: Callable[..., Any], gives: type[BaseModel], *fails: int) -> None:
        # With a default, FastAPI does not say that there are 422s of its own making.
        other: Document = {"model": shapes.StandardError, "description": "Any other error."}
        said: Responses = {200: {"model": gives}, **refusals(*fails), "default": other}
        app.add_api_route(path, answer, methods=["GET"], responses=said)

    get("/image/styles", routes.styles, shapes.Styles)
    get("/models", routes.kinds(routes.front.models), shapes.Models, 400)
    get("/models/traits", routes.kinds(routes.traits), shapes.Traits, 400)
    get("/models/compatibility_mapping", routes.kinds(routes.mapping), shapes.Traits, 400)
