"""A refusal as Venice's clients read it: four shapes of body, and Venice's own statuses.

Knows no route; what an operation calls its fields, and an unknown model, is told by `Said`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from starlette.responses import Response

from server.edge import web
from server.errors import (
    BadImage,
    BadRequest,
    FetchFailed,
    ImageTooLarge,
    ImageTooSmall,
    InternalError,
    Mistake,
    Overloaded,
    Refusal,
    TooLarge,
    UnknownModel,
    Unprocessable,
    UnsupportedMedia,
)

Document: TypeAlias = dict[str, Any]

INVALID = "Invalid request parameters"
TOO_LARGE = "Image dimensions exceed the maximum allowed."
MESSAGES = "_errors"  # the list of them, of `details` and of each field in it
MOST = 4  # mistakes that are named one by one, so that a body stays under 2 KB
NAMED_BYTES = 150  # of the message of each
# Pydantic's kinds of mistakes, as the library that Venice validates with calls them.
CODES = {
    "missing": "invalid_type",
    "literal_error": "invalid_enum_value",
    "extra_forbidden": "unrecognized_keys",
    "string_pattern_mismatch": "invalid_string",
}
SMALL = ("too_short", "string_too_short", "greater_than", "greater_than_equal")
BIG = ("too_long", "string_too_long", "less_than", "less_than_equal")


@dataclass(frozen=True, slots=True)
class Said:
    """How one operation speaks.

    Attributes:
        names: its names for fields of `Draft`.
        unknown_model: the status of an unknown model; 400 or 404.
        forms: whether it takes multipart forms.
    """

    names: Mapping[str, str] = field(default_factory=dict[str, str])
    unknown_model: int = 404
    forms: bool = False

    def name(self, param: str) -> str:
        """The operation's name for a field."""
        return self.names.get(param, param)


PLAIN = Said()


def render(refusal: Refusal, said: Said = PLAIN, *, image_bytes: int = 25 * 2**20) -> Response:
    """The answer; `image_bytes` is the most that a file may have."""
    status = status_of(refusal, said)
    answer = web.refuse(refusal, document_of(refusal, status, said, image_bytes))
    answer.status_code = status
    return answer


def status_of(refusal: Refusal, said: Said) -> int:
    """Venice's status, where it is another than the house's."""
    match refusal:
        case UnknownModel():
            return said.unknown_model
        case ImageTooLarge():
            return 422
        case Unprocessable():  # Venice's 422 would be a violated content policy
            return 400
        case _:
            return refusal.status


def document_of(refusal: Refusal, status: int, said: Said, image_bytes: int) -> Document:
    """The body, of at most 2 KB of ASCII."""
    text = _sentence(refusal, said)
    if isinstance(refusal, TooLarge):
        most = f"File exceeds the maximum allowed size of {image_bytes / 2**20:g} MB."
        whole = "Request body exceeds the maximum allowed size."
        error = most if refusal.param else whole
        return {"code": "PAYLOAD_TOO_LARGE", "error": web.clipped(f"{error} ({text})", 500)}
    if status == 400:
        return _detailed(_headline(refusal), _mistakes(refusal, said))
    return {"error": web.clipped(_prefix(refusal, said) + text, web.MESSAGE_BYTES)}


def _sentence(refusal: Refusal, said: Said) -> str:
    """The message, in which the field is called as the client called it."""
    name = said.name(refusal.param or "")
    text = web.renamed(refusal, name)
    if isinstance(refusal, UnsupportedMedia) and said.forms:
        text = text.replace("application/json", "application/json or multipart/form-data")
    return web.message_of(Refusal(text), name or None)


def _prefix(refusal: Refusal, said: Said) -> str:
    """Venice's own words for what went wrong, ahead of ours."""
    match refusal:
        case UnknownModel():
            return "Specified model not found: "
        case ImageTooLarge():
            return f"{TOO_LARGE} "
        case Overloaded():
            return "The model is at capacity. Please try again later. "
        case InternalError():
            return "Inference processing failed: "
        case UnsupportedMedia():
            return "Invalid request content-type: "
        case _:
            return ""


def _headline(refusal: Refusal) -> str:
    match refusal:
        case UnknownModel():
            return "Invalid model id"
        case ImageTooSmall():
            return "Image dimensions are too small"
        case FetchFailed():
            return INVALID
        case BadImage():
            return "The image file is corrupted or unreadable"
        case _:
            return INVALID


def _mistakes(refusal: Refusal, said: Said) -> Sequence[Mistake]:
    if isinstance(refusal, BadRequest) and refusal.mistakes:
        return _shaped(refusal.mistakes)
    name = said.name(refusal.param or "")
    message = web.renamed(refusal, name)
    path = _path(name)
    return [Mistake(path, "custom", message.removeprefix(f"{name}: ") if path else message)]


def _shaped(mistakes: Sequence[Mistake]) -> list[Mistake]:
    """Those of a shape: keys that are unknown as one, fields that are missing by name."""
    found: list[Mistake] = []
    unknown: dict[tuple[str | int, ...], list[str]] = {}
    for path, kind, message in mistakes:
        if kind == "extra_forbidden":
            unknown.setdefault(path[:-1], []).append(str(path[-1]))
            continue
        if kind == "missing":
            message = f"{path[-1]} is required"
        found.append(Mistake(path, kind, message))
    found += [Mistake(path, "extra_forbidden", _unknown(keys)) for path, keys in unknown.items()]
    left = len(found) - MOST
    return [*found[:MOST], *([Mistake((), "custom", f"and {left} more")] if left > 0 else [])]


def _unknown(keys: Sequence[str]) -> str:
    named = ", ".join(f"'{web.clipped(key, 30)}'" for key in keys[:3])
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"Unrecognized key(s) in object: {named}{more}"


def _path(param: str) -> tuple[str | int, ...]:
    """Where a field is; nowhere, if a client has called one as the document calls its lists."""
    parts = re.findall(r"[^.\[\]]+", param)
    if MESSAGES in parts:
        return ()
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _detailed(headline: str, mistakes: Sequence[Mistake]) -> Document:
    limit = web.MESSAGE_BYTES if len(mistakes) == 1 else NAMED_BYTES
    details: Document = {MESSAGES: []}
    issues: list[Document] = []
    for mistake in mistakes:
        path = [part if isinstance(part, int) else web.clipped(part, 50) for part in mistake.path]
        message = web.clipped(mistake.message, limit)
        at = details
        for part in path:
            at = cast(Document, at.setdefault(str(part), {MESSAGES: []}))
        at[MESSAGES].append(message)
        issues.append({"code": _code(mistake.kind), "path": path, "message": message})
    return {"error": headline, "details": details, "issues": issues}


def _code(kind: str) -> str:
    if kind in SMALL or kind in BIG:
        return "too_small" if kind in SMALL else "too_big"
    if kind.endswith(("_type", "_parsing", "_from_float")):
        return "invalid_type"
    return CODES.get(kind, "custom")
