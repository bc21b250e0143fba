"""What Venice's operations take and answer, for the page that describes them.

Nothing of what they do.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel

from server.dialects.venice_shapes import DetailedError, Generate, PayloadTooLarge, StandardError
from server.edge.description import FILE, as_form, schema_of, takes

Document: TypeAlias = dict[str, Any]
Responses: TypeAlias = dict[int | str, Document]

ERRORS: dict[int, tuple[type[BaseModel], str]] = {
    400: (DetailedError, "A field is missing, malformed or out of range, or an image is none."),
    403: (StandardError, "Host or Origin is not allowed."),
    404: (StandardError, "There is no such model."),
    408: (StandardError, "The body did not arrive in time."),
    413: (PayloadTooLarge, "The body, or an image in it, is too large."),
    415: (StandardError, "The body is of another type."),
    422: (StandardError, "An image has too many pixels."),
    500: (StandardError, "Something broke inside the server."),
    503: (StandardError, "Not now; Retry-After says when, if that is known."),
}
LISTS = {200: "The list.", 400: "No such type."}


def answers(*kinds: str, body: type[BaseModel] | None = None) -> Responses:
    """The answers of an operation: pictures of these formats, or a JSON body."""
    pictures = {f"image/{kind}": {"schema": FILE} for kind in kinds}
    found: Document = {"description": "The picture." if kinds else "The answer."}
    found |= {"content": pictures} if pictures else {}
    found |= {"model": body} if body else {}
    return {200: found} | refusals(*ERRORS)


def refusals(*statuses: int) -> Responses:
    """Those of the error answers."""
    return {
        status: {"model": ERRORS[status][0], "description": ERRORS[status][1]}
        for status in statuses
    }


def taken(shape: type[BaseModel], uploads: str = "") -> Document:
    """The `openapi_extra` of an operation whose body is a `shape`: JSON, or as well a form, in
    which `uploads` is a file, or several."""
    schema = schema_of(shape)
    if not uploads:
        return takes(schema)
    field = schema["properties"][uploads]
    several = field.get("type") == "array"
    file = field | {"items": FILE} if several else FILE
    needed = () if uploads in schema.get("required", ()) else (uploads,)
    return takes(schema, as_form(schema, {uploads: file}, optional=needed))


def taken_natively(styles: Sequence[str]) -> Document:
    """That of `POST /image/generate`, with the style presets that there are."""
    schema = schema_of(Generate)
    schema["properties"]["style_preset"] = {"enum": [*styles, None], "default": None}
    return takes(schema)
