"""What OpenAI's image requests and answers look like on the wire, as pydantic shapes.

Ranges that OpenAI documents, the fields that are ours beside them, and nothing of what they do.
"""

import re
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from server.edge import fields
from server.sizes import MAX_SIDE, MIN_SIDE

MAX_IMAGES = 16
URL = f"^({fields.WEB_URL}|{fields.DATA_URL})$"
SIDE = r"(6[4-9]|[7-9]\d|[1-9]\d\d|[1-7]\d{3}|80\d\d|81[0-8]\d|819[0-2])"  # 64 to 8192


def _given(value: object) -> object:
    """Clients with a form of their own send the fields that nobody filled in, too."""
    return None if value == "" else value


def _no_file(value: object) -> None:
    if value is not None:
        raise ValueError("no files are kept here; send image_url")


def _size(text: str) -> str:
    if text != "auto" and not re.fullmatch(f"{SIDE}x{SIDE}", text):
        raise ValueError(f'must be "auto" or like "1024x1024", sides from {MIN_SIDE} to {MAX_SIDE}')
    return text


Size: TypeAlias = Annotated[
    str,
    AfterValidator(_size),
    Field(json_schema_extra={"pattern": f"^(auto|{SIDE}x{SIDE})?$"}, examples=["1024x1024"]),
]
Model: TypeAlias = Annotated[str, Field(max_length=200), fields.Clean]
Name: TypeAlias = Annotated[str, Field(max_length=256), fields.Clean]
Guidance: TypeAlias = Annotated[float, Field(ge=0, le=50)]
Steps: TypeAlias = Annotated[int, Field(ge=1, le=1000), fields.Integral]

# -- The wire: what comes in ----------------------------------------------------------------------


class Options(fields.Shape):
    """What every request may have. The second half is ours, for `extra_body`."""

    model: Annotated[Model | None, BeforeValidator(_given)] = None
    n: Annotated[int, Field(ge=1, le=10), fields.Integral] | None = None
    size: Annotated[Size | None, BeforeValidator(_given)] = None
    quality: Literal["low", "medium", "high", "auto", "standard", "hd", "xhigh", "max"] | None = (
        None
    )
    response_format: Literal["url", "b64_json"] | None = None
    output_format: fields.OutputFormat | None = None
    output_compression: Annotated[int, Field(ge=0, le=100), fields.Integral] | None = None
    user: Name | None = None
    safety_identifier: Name | None = None

    negative_prompt: fields.Text | None = None
    seed: fields.Seed | None = None
    steps: Steps | None = None
    num_inference_steps: Steps | None = None
    guidance: Guidance | None = None
    guidance_scale: Guidance | None = None
    true_cfg_scale: Guidance | None = None
    style_preset: Annotated[str, Field(max_length=100), fields.Clean] | None = None
    lora_strength: Annotated[int, Field(ge=0, le=100), fields.Integral] | None = None
    aspect_ratio: fields.Ratio | None = None
    resolution: fields.Tier | None = None
    strict: bool | None = None


class Prompted(Options):
    """What requests with a prompt may have."""

    prompt: fields.Prompt
    background: Literal["transparent", "opaque", "auto"] | None = None
    moderation: Literal["low", "auto"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3), fields.Integral] | None = None


class Generate(Prompted):
    """The body of `POST /images/generations`; null is the same as absent."""

    style: Annotated[str, Field(max_length=100), fields.Clean] | None = None


class Edit(Prompted):
    """The text fields of `POST /images/edits` as a form; its files are `image` and `mask`."""

    input_fidelity: Literal["high", "low"] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None


class ImageSource(fields.Shape):
    """An image: `image_url`, an address or a data URL. There are no files to have a `file_id`."""

    image_url: Annotated[str, Field(min_length=1, json_schema_extra={"pattern": URL})]
    file_id: Annotated[None, BeforeValidator(_no_file)] = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """Of a `file_id` alone it is not said as well that `image_url` is missing."""
        if isinstance(value, dict) and cast(dict[str, object], value).get("file_id") is not None:
            return {"image_url": "-", **cast(dict[str, object], value)}
        return cast(object, value)


class EditJson(Edit):
    """The body of `POST /images/edits` as JSON: the first image is the base."""

    images: Annotated[list[ImageSource], Field(min_length=1, max_length=MAX_IMAGES)]
    mask: ImageSource | None = None


class Variation(Options):
    """The text fields of `POST /images/variations`; its file is `image`."""

    strength: Annotated[float, Field(gt=0, le=1)] | None = None


# -- The wire: what goes out ----------------------------------------------------------------------


class ErrorText(BaseModel):
    """What went wrong; `param` is the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """The body of every answer that is not 200."""

    error: ErrorText


class Delivered(BaseModel):
    """One picture, as the one or the other; `index` and `seed` are ours."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None
    index: int
    seed: int


class Answer(BaseModel):
    """A whole answer; `limner` says what was done for it."""

    created: int
    data: list[Delivered]
    background: Literal["opaque"]
    output_format: Literal["png", "jpeg", "webp"]
    size: str
    quality: Literal["low", "medium", "high"] | None = None
    safety_identifier: str | None = None
    limner: dict[str, Any]


class Row(BaseModel):
    """A model; its other keys are for the clients of other services."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Rows(BaseModel):
    """The models."""

    object: Literal["list"]
    data: list[Row]
