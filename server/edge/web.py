"""The HTTP toolbox of the dialects: a body under a limit, strict JSON, shapes; refusals as answers.

The framework stays in here and in the dialects. Knows no dialect: each brings its shapes and the
one function that renders a `Refusal`.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
import numpy as np
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.edge.delivery import Gone
from server.edge.gate import request_id
from server.errors import (
    BadRequest,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    Mistake,
    NotFound,
    Refusal,
    TooLarge,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)
from server.jobs.intake import Notice

log = logging.getLogger(__name__)

MESSAGE_BYTES = 500  # of a public message, as ASCII JSON; the body around it stays under 2 KB
ECHO_CHARS = 50  # of what a client sent
HEADER_BYTES = 2048
UNKNOWN_NAMED = 20  # unknown fields that are named one by one
WARNINGS = "X-Limner-Warnings"
TIMING = "Server-Timing"
READ = "limner.body"  # where a scope keeps a body that was read ahead of its dialect

BODY_SECONDS = 10  # a body has these to arrive, and one more for every BODY_RATE bytes of it
BODY_RATE = 65536
MAX_VALUES = 20_000  # in a body; as an object, each takes tens of times its bytes
CHUNK = 2**20  # bytes that are looked at in one go, and decoded without a thread

_NOT_MARKS = bytes({*range(256)} - {*b",:[{"})
_OUTSIDE, _QUOTE = 1, 2
_CODES = bytes(_OUTSIDE if c in b",:[{" else _QUOTE if c == ord('"') else 0 for c in range(256))
_KEY = re.compile(rb'"([^"\\\x00-\x1f]{1,200})"\s*:')
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?=[^\\]|\\[^u])")

ShapeT = TypeVar("ShapeT", bound=BaseModel)
Render: TypeAlias = Callable[[Refusal], Response]


# -- Reading --------------------------------------------------------------------------------------


async def read(request: Request, shape: type[ShapeT], limit: int) -> ShapeT:
    """The JSON body of a request as a `shape`. `limit` is in bytes.

    Raises:
        UnsupportedMedia, TooLarge, TooSlow, BadRequest: with the field at fault named.
    """
    _expect_json(request)
    text = await body(request, limit)
    if len(text) <= CHUNK:
        return parse(text, shape)
    return await asyncio.to_thread(parse, text, shape)


def _expect_json(request: Request) -> None:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", kind):
        raise UnsupportedMedia("Content-Type must be application/json")
    expect_identity(request)


def expect_identity(request: Request) -> None:
    """Refuse a compressed body.

    Raises:
        UnsupportedMedia.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("Content-Encoding is not supported; send the body as it is")


async def body(request: Request, limit: int) -> bytearray:
    """The body, of at most `limit` bytes; no more than that is ever held.

    Raises:
        TooLarge: at once if Content-Length says so.
        TooSlow: it trickles in.
    """
    if (read_before := request.scope.get(READ)) is not None:
        return read_before
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit)
    expected = int(declared) if declared.isdecimal() else limit
    held = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS + expected / BODY_RATE):
            async for chunk in request.stream():
                if len(held) + len(chunk) > limit:
                    raise _too_large(limit)
                held += chunk
    except TimeoutError:
        raise TooSlow(f"the body did not arrive in time; {len(held)} bytes did") from None
    return held  # a copy as bytes would cost more than reading the JSON


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes")


def parse(text: bytes | bytearray, shape: type[ShapeT]) -> ShapeT:
    """Strict JSON (no NaN, no lone surrogates, no bombs) as a `shape`.

    Raises:
        BadRequest: with the field at fault named and what is allowed there.
    """
    if crowded(text):
        raise BadRequest("the body has too many values")
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON{_reason(error, text)}") from error
    except RecursionError as error:
        raise BadRequest("the body is not valid JSON: it nests too deep") from error
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise bad_request(error.errors(include_url=False, include_input=False)) from None


def crowded(text: bytes | bytearray) -> bool:
    """Whether it holds more than `MAX_VALUES` JSON values and keys.

    Exact up to the first byte that is not JSON, and nobody reads on from there.
    """
    # Base64 has none of these marks, so that a body full of pictures is settled here.
    if len(text.translate(None, _NOT_MARKS)) <= MAX_VALUES:
        return False
    marks, inside, escaped = 0, False, False
    for start in range(0, len(text), CHUNK):
        chunk = text[start + escaped : start + CHUNK]
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        escaped = chunk.endswith(b"\\")
        codes = np.frombuffer(chunk.translate(_CODES), np.uint8)
        # The parity of the quotes so far; uint8 wraps around at an even number.
        quoted = (np.cumsum(codes == _QUOTE, dtype=np.uint8) + np.uint8(inside)) & 1
        marks += np.count_nonzero((codes == _OUTSIDE) & (quoted == 0))
        if marks > MAX_VALUES:
            return True
        inside = bool(quoted[-1]) if len(quoted) else inside
    return False


def _reason(error: Exception, text: bytes | bytearray) -> str:
    """What is wrong, and near which key if that can be told."""
    # The path that msgspec adds leaves the keys out, so it helps nobody.
    said = str(error).partition(" - at ")[0].removeprefix("JSON is malformed: ")
    told = re.search(r"\(byte (\d+)\)", said)
    if not told and (undecodable := _not_utf8(text)) is not None:
        return _near(text, undecodable) + "a string is not UTF-8"
    at = int(told[1]) if told else 0
    if said.endswith("truncated") and (half := _HALF_PAIR.search(text, max(0, len(text) - 16))):
        said, at = "surrogate", half.start()
    if "surrogate" in said:
        said = "a string holds half of a surrogate pair"
    elif re.match(rb"nan|inf", text[at : at + 3], re.IGNORECASE):
        said = "NaN and Infinity are not JSON"
    return _near(text, at) + said


def _not_utf8(text: bytes | bytearray) -> int | None:
    """The first byte that is not UTF-8, which msgspec names in some versions only."""
    try:
        str(text, "utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


def _near(text: bytes | bytearray, at: int) -> str:
    """Between the head of a message and its reason: the last key before byte `at`."""
    keys = _KEY.findall(text[max(0, at - CHUNK // 4) : at])
    return f' near "{clipped(keys[-1].decode("utf-8", "replace"), ECHO_CHARS)}": ' if keys else ": "


def bad_request(mistakes: Sequence[ErrorDetails]) -> BadRequest:
    """What pydantic found, as one refusal that names the first few fields, never their values."""
    lines = [f"{_path(mistake)}: {_problem(mistake)}" for mistake in mistakes[:3]]
    if len(mistakes) > 3:
        lines.append(f"and {len(mistakes) - 3} more")
    refusal = BadRequest(clipped("; ".join(lines), MESSAGE_BYTES), param=_path(mistakes[0]))
    refusal.mistakes = tuple(
        Mistake(mistake["loc"], mistake["type"], _problem(mistake)) for mistake in mistakes
    )
    return refusal


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
            message = mistake["msg"].removeprefix("Value error, ").replace(" after validation", "")
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


def renamed(refusal: Refusal, name: str) -> str:
    """The message; if it starts with the field at fault, then with this name of it."""
    if not (param := refusal.param):
        return refusal.message
    return re.sub(rf"^{re.escape(param)}(?!\w)", lambda _: name, refusal.message)


def refuse(refusal: Refusal, document: Mapping[str, Any]) -> Response:
    """An answer with the refusal's status and headers and the dialect's body: ASCII, not cached."""
    answer = Response(
        json.dumps(document), refusal.status, {"Cache-Control": "no-store"}, "application/json"
    )
    if isinstance(refusal, TooSlow):
        answer.headers["Connection"] = "close"  # what is left of the body is no next request
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
        mistakes = cast(RequestValidationError, error).errors()
        # FastAPI says first where the field is, as in ("query", "limit"); a body's mistakes do not.
        named = [cast(ErrorDetails, {**each, "loc": each["loc"][1:]}) for each in mistakes]
        return render(bad_request(named))

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


# -- Warning --------------------------------------------------------------------------------------


def named(
    notices: Iterable[Notice], own: Iterable[Notice], name: Callable[[str], str]
) -> list[Notice]:
    """Notices with a dialect's names of their fields; its own, as those of unknown keys, have them
    already."""
    said = {*own}
    return [each if each in said else Notice(name(each.param), each.message) for each in notices]


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


def timing_header(seconds: Mapping[str, float]) -> dict[str, str]:
    """The header that names where the time went, in ms; https://www.w3.org/TR/server-timing/."""
    spent = (f"{name};dur={value * 1000:.1f}" for name, value in seconds.items())
    return {TIMING: ", ".join(spent)} if seconds else {}


def unknown(names: Sequence[str]) -> Iterator[Notice]:
    """What to tell of fields that nobody knows, but not of each of many."""
    for name in names[:UNKNOWN_NAMED]:
        yield Notice(clipped(name, ECHO_CHARS), "unknown field, ignored")
    if len(names) > UNKNOWN_NAMED:
        yield Notice("", f"{len(names) - UNKNOWN_NAMED} more unknown fields, ignored")
