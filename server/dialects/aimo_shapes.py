"""What AIMO's requests and answers look like on the wire, as pydantic shapes.

Ranges that AIMO documents, and nothing of what the fields do.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from server.edge import fields

# -- The wire: what comes in ----------------------------------------------------------------------

Flag: TypeAlias = bool | None


def _either(schema: dict[str, Any]) -> None:
    """What an image may be, as JSON Schema says it."""
    inline = f"^({fields.DATA_URL}|{fields.BASE64})$"
    linked = f"^({fields.WEB_URL}|{fields.DATA_URL})$"

    def one(name: str, pattern: str, other: str) -> dict[str, Any]:
        text = {"type": "string", "pattern": pattern}
        return {
            "type": "object",
            "properties": {name: text, other: {"type": "null"}},
            "required": [name],
        }

    bare = {"type": "string", "pattern": f"^({fields.WEB_URL}|{fields.DATA_URL}|{fields.BASE64})$"}
    schema.clear()
    schema["anyOf"] = [one("b64", inline, "url"), one("url", linked, "b64"), bare]


class ImageSource(fields.Shape):
    """An image: exactly one of `b64` (a data URL, or bare base64) and `url`."""

    model_config = ConfigDict(json_schema_extra=_either)

    b64: str | None = None
    url: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        """A string in place of the object is taken for what it looks like."""
        if not isinstance(value, str):
            return value
        return {"url" if value[:6].lower().startswith(("http:", "https:")) else "b64": value}


# A file is one picture, and no stream.
TOO_MUCH_FOR_A_FILE: dict[str, Any] = {
    "properties": {"output_type": {"const": "file"}},
    "required": ["output_type"],
    "anyOf": [
        {"properties": {"n": {"type": "integer", "minimum": 2}}, "required": ["n"]},
        {"properties": {"stream": {"const": True}}, "required": ["stream"]},
    ],
}


class Generate(fields.Shape):
    """The body of `POST /image/generate`; null is the same as absent."""

    model_config = ConfigDict(json_schema_extra={"not": TOO_MUCH_FOR_A_FILE})

    model: Annotated[str, Field(min_length=1, max_length=200), fields.Clean]
    prompt: fields.Prompt
    negative_prompt: fields.Text | None = None
    n: Annotated[int, Field(ge=1, le=10), fields.Integral] | None = None
    width: fields.Pixels | None = None
    height: fields.Pixels | None = None
    aspect_ratio: fields.Ratio | None = None
    resolution: fields.Tier | None = None
    seed: fields.Seed | None = None
    steps: Annotated[int, Field(ge=1, le=1000), fields.Integral] | None = None
    guide_scale: Annotated[float, Field(ge=0, le=50)] | None = None
    quality: Literal["low", "medium", "high", "auto"] | None = None
    style: Annotated[str, Field(max_length=1000), fields.Clean] | None = None
    style_preset: Annotated[str, Field(max_length=100), fields.Clean] | None = None
    output_format: fields.OutputFormat | None = None
    output_type: Literal["data_url", "file"] | None = None
    stream: Flag = None
    user: Annotated[str, Field(max_length=256), fields.Clean] | None = None
    metadata: fields.Metadata | None = None
    embed_exif_metadata: Flag = None
    hide_watermark: Flag = None
    watermark: Flag = None
    safe_mode: Flag = None
    prompt_extend: Flag = None
    enable_web_search: Flag = None
    lora_strength: Annotated[int, Field(ge=0, le=100), fields.Integral] | None = None
    strict: Flag = None


class Edit(Generate):
    """The body of `POST /image/edit`: the first image is the base."""

    n: Annotated[int, Field(ge=1, le=6), fields.Integral] | None = None
    images: Annotated[list[ImageSource], Field(min_length=1, max_length=16)]
    mask: ImageSource | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None


# -- The wire: what goes out ----------------------------------------------------------------------


class ErrorText(BaseModel):
    """What went wrong; `message` names the field at fault."""

    code: str
    message: str


class Error(BaseModel):
    """The body of every answer that is not 200."""

    error: ErrorText


class Dimensions(BaseModel):
    """In px."""

    width: int
    height: int


class Delivered(Dimensions):
    """A picture; in a stream also a preview, which has no `seed`."""

    index: int
    data_url: str
    format: Literal["png", "jpeg", "webp"]
    seed: int | None = None


class Provider(BaseModel):
    """Who painted; `raw` holds model, steps, guide_scale, sizes, seconds, warnings, metadata."""

    provider: Literal["limner"]
    raw: dict[str, Any]


class Answer(BaseModel):
    """An answer, or in a stream (`processing`) a part of one."""

    id: str | None = None
    created: int | None = None
    status: Literal["completed", "failed", "processing"]
    images: list[Delivered]
    input_images: list[Dimensions] | None = None
    partial_image_index: int | None = None
    error: Error | None = None
    provider_metadata: Provider
