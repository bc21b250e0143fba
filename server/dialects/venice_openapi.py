"""What Venice's operations take and answer, for the page that describes them.

Nothing of what they do.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

from server.dialects.venice_shapes import DetailedError, Generate, PayloadTooLarge, StandardError
from server.edge import web

Document: TypeAlias = dict[str, Any]
Responses: TypeAlias = dict[int | str, Document]

FILE: Document = {"type": "string", "format": "binary", "minLength": 1}
# The texts that stand for true and false in a form.
FLAG: Document = {
    "type": "string",
    "examples": ["true", "false"],
    "pattern": "^([01fFtTnNyY]|[oO][nN]|[oO][fF][fF]|[nN][oO]|[yY][eE][sS]"
    "|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$",
}
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


def takes(shape: type[BaseModel], uploads: str = "") -> Document:
    """The `openapi_extra` of an operation whose body is a `shape`: JSON, or as well a form, in
    which `uploads` is a file, or several."""
    extra = web.takes(shape)
    if uploads:
        content = extra["requestBody"]["content"]
        content["multipart/form-data"] = {
            "schema": _as_form(content["application/json"]["schema"], uploads)
        }
    return extra


def painting(styles: Sequence[str]) -> Document:
    """That of native requests, with the style presets that there are."""
    extra = takes(Generate)
    properties = extra["requestBody"]["content"]["application/json"]["schema"]["properties"]
    properties["style_preset"] = {"enum": [*styles, None], "default": None}
    return extra


def _as_form(schema: Document, uploads: str) -> Document:
    """The schema of the same fields in a form, which has texts only and no way to say null."""
    said = {name: _as_text(field) for name, field in schema["properties"].items()}
    several = said[uploads].get("type") == "array"
    said[uploads] = said[uploads] | {"items": FILE} if several else FILE
    return schema | {"properties": said}


def _as_text(field: Document) -> Document:
    kinds = cast(list[Document], field.get("anyOf", []))
    left = [kind for kind in kinds if kind.get("type") != "null"]
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    found = rest | (left[0] if len(left) == 1 else {"anyOf": left}) if left else rest
    return found | FLAG if found.get("type") == "boolean" else found
