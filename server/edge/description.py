"""What operations take, for the pages that describe them: JSON Schema of bodies and of forms.

Nothing here acts, and nothing here knows a dialect.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

Document: TypeAlias = dict[str, Any]

FILE: Document = {"type": "string", "format": "binary", "minLength": 1}
# The schema of one server-sent event.
EVENT: Document = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}


def takes(body: Document | None = None, form: Document | None = None) -> Document:
    """The `openapi_extra` of an operation that takes JSON of this schema, or a form of that one."""
    content: Document = {"application/json": {"schema": body}} if body else {}
    content |= {"multipart/form-data": {"schema": form}} if form else {}
    return {"requestBody": {"required": True, "content": content}}


def schema_of(shape: type[BaseModel]) -> Document:
    """The schema of a shape without references: those of pydantic do not resolve on the page."""
    schema = shape.model_json_schema()
    return _inlined(schema, schema.pop("$defs", {}))


def as_form(
    schema: Document, files: Mapping[str, Document], *, optional: Collection[str] = ()
) -> Document:
    """The schema of the same fields in a form, beside its files, or in their place. A form has no
    text for null."""
    fields = {name: _never_null(field) for name, field in schema["properties"].items()}
    required = dict.fromkeys((*schema.get("required", ()), *files))
    return schema | {
        "properties": fields | dict(files),
        "required": [name for name in required if name not in optional],
    }


def _never_null(field: Document) -> Document:
    kinds = [kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"]
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    if "enum" in rest:
        rest |= {"enum": [value for value in rest["enum"] if value is not None]}
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast(Document, schema)
    if "$ref" in known:
        return _inlined(definitions[known["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in known.items()}
