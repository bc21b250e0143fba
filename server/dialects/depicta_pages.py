"""What Depicta's OpenAPI page says of its operations. Nothing here acts."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from server.dialects.depicta_drafts import Operation
from server.dialects.depicta_shapes import (
    COMBINED,
    Error,
    Generate,
    Generation,
    Generations,
    Job,
    Profile,
    Uploaded,
)
from server.edge.description import FILE, as_form, schema_of, takes
from server.jobs.catalog import Catalog

Responses: TypeAlias = dict[int | str, dict[str, Any]]

SAID: Mapping[Operation, str] = {
    "generate": "Paint an image from a prompt.",
    "edit": "Repaint an image.",
    "combine": "Make one image of several.",
}
ERRORS = {
    400: "The body cannot be read.",
    403: "Host or Origin is not allowed.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "The same request is being answered.",
    413: "The body, or an image in it, is too large.",
    415: "The body is of another type.",
    422: "A field is missing, malformed or out of range, or no model can do this.",
    500: "Something broke inside the server.",
    502: "The painting process died.",
    503: "Not now; Retry-After says when, if that is known.",
}
JOB_HEADER = {
    "X-Depicta-Job-Id": {
        "description": "The id of the job.",
        "schema": {"type": "string", "format": "uuid"},
    }
}


def _responses(model: type[Any], *statuses: int, **more: Any) -> Responses:
    failures = {status: {"model": Error, "description": ERRORS[status]} for status in statuses}
    return {200: {"model": model, **more}, **failures}


GENERATION = _responses(Generation, *ERRORS, headers=JOB_HEADER)
UPLOAD = _responses(Uploaded, 400, 403, 408, 413, 415, 422, 500, 503)
JOBS = _responses(Generations, 403, 422, 500, 503)
JOB = _responses(Job, 403, 404, 500, 503)
PROFILE = _responses(Profile, 403, 500)

KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request under the same key is painted once and answered again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def taken(operation: Operation, wire: type[Generate], catalog: Catalog) -> dict[str, Any]:
    """The `openapi_extra` of an operation: JSON, and a form where there are images; with the models
    that there are, and as many images as one of them takes."""
    body, fields = (_named(schema_of(each), catalog) for each in (wire, Generate))
    low, high = COMBINED
    most = max(low, min(high, max(each.max_inputs for each in catalog.offerings)))
    several = {"type": "array", "items": FILE, "minItems": low, "maxItems": most}
    if operation == "combine":
        body["properties"]["input_image_urls"]["maxItems"] = most
    files = {"generate": None, "edit": {"image": FILE}, "combine": {"images": several}}[operation]
    return takes(body, as_form(fields, files) if files else None) | {"parameters": [KEY]}


def _named(schema: dict[str, Any], catalog: Catalog) -> dict[str, Any]:
    names = [name for each in catalog.offerings for name in (each.id, *each.aliases)]
    schema["properties"]["model"] = {"enum": [*names, None], "default": None}
    return schema


UPLOADED = takes(form={"type": "object", "required": ["image"], "properties": {"image": FILE}})
UPLOADED["requestBody"]["content"]["multipart/form-data"]["encoding"] = {
    "image": {"contentType": "image/png, image/jpeg, image/webp"}
}

ONE = {
    "parameters": [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
        }
    ]
}


def paged(usual: int, most: int, farthest: int) -> dict[str, Any]:
    """The `openapi_extra` of a list."""
    limit = {"type": "integer", "minimum": 1, "maximum": most, "default": usual}
    offset = {"type": "integer", "minimum": 0, "maximum": farthest, "default": 0}
    return {
        "parameters": [
            {"name": "limit", "in": "query", "schema": limit},
            {"name": "offset", "in": "query", "schema": offset},
        ]
    }
