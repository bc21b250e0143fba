"""The HTTP toolbox of the dialects: a body under a limit, strict JSON, shapes; refusals as answers.

The framework stays in here and in the dialects. Knows no dialect: each brings its shapes and the
one function that renders a `Refusal`.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.delivery import Gone
from server.errors import (
    BadRequest,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Refusal,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from server.gate import request_id
from server.intake import Notice

log = logging.getLogger(__name__)

MESSAGE_BYTES = 500  # of a public message, as ASCII JSON; the body around it stays under 2 KB
ECHO_CHARS = 50  # of what a client sent
HEADER_BYTES = 2048
WARNINGS = "X-Limner-Warnings"

ShapeT = TypeVar("ShapeT", bound=BaseModel)
Render: TypeAlias = Callable[[Refusal], Response]


# -- Reading --------------------------------------------------------------------------------------


async def read(request: Request, shape: type[ShapeT], limit: int) -> ShapeT:
    """The JSON body of a request as a `shape`. `limit` is in bytes.

    Raises:
        UnsupportedMedia, TooLarge, BadRequest: with the field at fault named.
    """
    _expect_json(request)
    return parse(await body(request, limit), shape)


def _expect_json(request: Request) -> None:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", kind):
        raise UnsupportedMedia("Content-Type must be application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("Content-Encoding is not supported; send the body as it is")


async def body(request: Request, limit: int) -> bytearray:
    """The body, of at most `limit` bytes; no more than that is ever held.

    Raises:
        TooLarge: at once if Content-Length says so.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    held = bytearray()
    async for chunk in request.stream():
        if len(held) + len(chunk) > limit:
            raise _too_large(limit)
        held += chunk
    return held  # a copy as bytes would cost more than reading the JSON


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes")


def parse(text: bytes | bytearray, shape: type[ShapeT]) -> ShapeT:
    """Strict JSON (no NaN, no lone surrogates, no bombs) as a `shape`.

    Raises:
        BadRequest: with the field at fault named and what is allowed there.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {_reason(error)}") from error
    except RecursionError as error:
        raise BadRequest("the body is not valid JSON: it nests too deep") from error
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise bad_request(error.errors(include_url=False, include_input=False)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    # The path that msgspec adds leaves the keys out, so it helps nobody.
    return str(error).partition(" - at ")[0].removeprefix("JSON is malformed: ")


def bad_request(mistakes: Sequence[ErrorDetails]) -> BadRequest:
    """What pydantic found, as one refusal that names the first few fields, never their values."""
    lines = [f"{_path(mistake)}: {_problem(mistake)}" for mistake in mistakes[:3]]
    if len(mistakes) > 3:
        lines.append(f"and {len(mistakes) - 3} more")
    return BadRequest(clipped("; ".join(lines), MESSAGE_BYTES), param=_path(mistakes[0]))


def _path(mistake: ErrorDetails) -> str:
    path = ""
    for step in mistake["loc"]:
        path += f"[{step}]" if isinstance(step, int) else f".{clipped(step, ECHO_CHARS)}"
    # An empty list is the first item's fault: it is not there.
    return path.lstrip(".") + ("[0]" if mistake["type"] == "too_short" else "")


def _problem(mistake: ErrorDetails) -> str:
    match mistake["type"]:
        case "missing" | "too_short":
            return "is required"
        case "model_type" | "dict_type":
            return "must be an object"
        case _:
            message = mistake["msg"].removeprefix("Value error, ")
            return re.sub(r"^(Input|String|List) should ", "must ", message)


# -- Refusing -------------------------------------------------------------------------------------


def clipped(text: str, limit: int) -> str:
    """The text, cut so that it takes at most `limit` bytes as an ASCII JSON string."""
    text = text[:limit]
    while len(json.dumps(text)) - 2 > limit:
        text = text[: len(text) * 3 // 4]
    return text


def message_of(refusal: Refusal, param: str | None) -> str:
    """What the client is told, naming the field at fault (as its dialect calls it), at most
    500 bytes of ASCII JSON."""
    message = refusal.message
    if param and not re.search(rf"(?<!\w){re.escape(param)}(?!\w)", message):
        message = f"{param}: {message}"
    return clipped(message, MESSAGE_BYTES)


def refuse(refusal: Refusal, document: Mapping[str, Any]) -> Response:
    """An answer with the refusal's status and headers and the dialect's body: ASCII, not cached."""
    answer = Response(
        json.dumps(document), refusal.status, {"Cache-Control": "no-store"}, "application/json"
    )
    if refusal.retry_after is not None:
        answer.headers["Retry-After"] = str(refusal.retry_after)
    return answer


def plain(refusal: Refusal) -> Response:
    """A refusal where no dialect is concerned."""
    return refuse(
        refusal, {"error": {"code": refusal.code, "message": message_of(refusal, refusal.param)}}
    )


def install(app: FastAPI, render: Render) -> None:
    """Make every error of this app, the framework's own as well, an answer of `render`."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        return render(cast(Refusal, error))

    async def on_http(request: Request, error: Exception) -> Response:
        found = cast(HTTPException, error)
        answer = render(_refusal_of(found, request))
        answer.headers.update(found.headers or {})  # such as Allow
        return answer

    async def on_shape(request: Request, error: Exception) -> Response:
        return render(bad_request(cast(RequestValidationError, error).errors()))

    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_shape)
    app.add_middleware(Edge, render=render)


def _refusal_of(error: HTTPException, request: Request) -> Refusal:
    route = f"{request.method[:ECHO_CHARS]} {clipped(request.url.path, ECHO_CHARS)}"
    match error.status_code:
        case 403:
            return Forbidden("not allowed")
        case 404:
            return NotFound(f"there is no {route}")
        case 405:
            return MethodNotAllowed(f"{route} is not allowed")
        case 413:
            return TooLarge("the body is too large")
        case 415:
            return UnsupportedMedia("Content-Type is not supported here")
        case 503:
            return Unavailable("try again later")
        case status if status >= 500:
            return InternalError("an error inside the server")
        case _:
            return BadRequest("the request is malformed")


class Edge:
    """The ASGI edge: what nobody caught becomes a log entry and a generic answer."""

    def __init__(self, app: ASGIApp, render: Render) -> None:
        self.app = app
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except (Gone, ClientDisconnect) as gone:
            log.info("%s: the client is gone: %s", request_id(scope), gone)
            if not started:  # nobody reads it, but the log line of the request will say 499
                await Response(status_code=499)(scope, receive, send)
        except Exception:
            log.exception("%s: an error inside the server", request_id(scope))
            if started:
                raise  # the only way to tell the client is to cut the connection
            error = InternalError(f"an error inside the server (request {request_id(scope)})")
            await self.render(error)(scope, receive, send)


# -- Warning and describing -----------------------------------------------------------------------


def warning_header(notices: Iterable[Notice]) -> dict[str, str]:
    """The header that names what was asked and did not act: ASCII JSON of at most 2 KB, whole
    entries only, the last one saying how many more there are. No notices, no header."""
    entries = [
        {"param": clipped(notice.param, 100), "message": clipped(notice.message, 400)}
        for notice in notices
    ]
    left_out = 0
    while len(text := _entries(entries, left_out)) > HEADER_BYTES:
        entries.pop()
        left_out += 1
    return {WARNINGS: text} if entries else {}


def _entries(entries: list[dict[str, str]], left_out: int) -> str:
    more = [{"param": "", "message": f"and {left_out} more"}] if left_out else []
    return json.dumps(entries + more)


def takes(shape: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of an operation whose JSON body is a `shape`."""
    schema = shape.model_json_schema()
    content = {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema without references: those of pydantic do not resolve inside an OpenAPI page."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast(dict[str, Any], schema)
    if "$ref" in known:
        return _inlined(definitions[known["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in known.items()}
