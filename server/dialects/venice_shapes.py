"""What Venice's requests and answers look like on the wire, as pydantic shapes.

Ranges that Venice documents, and nothing of what the fields do. `null` is the same as absent.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from server.edge import fields
from server.edge.fields import Clean, Integral

# -- The wire: what comes in ----------------------------------------------------------------------


def _upload(value: object) -> str | bytes:
    if not isinstance(value, (str, bytes)):
        raise ValueError("must be a string")
    if not value:
        raise ValueError("must not be empty")
    return value


def _written(*ways: str) -> WithJsonSchema:
    """An image as text, in these ways."""
    return WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(ways)})$"})


Flag: TypeAlias = bool | None
Grade: TypeAlias = Literal["low", "medium", "high"]
# As `listing.RATIOS`, which is what `GET /models` says of every model.
Ratio: TypeAlias = Literal["1:1", "3:2", "2:3", "4:3", "3:4", "4:5", "5:4", "16:9", "9:16", "21:9"]
Ratios: TypeAlias = Literal[
    "auto", "1:1", "3:2", "2:3", "4:3", "3:4", "4:5", "5:4", "16:9", "9:16", "21:9"
]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200), Clean]
LongPrompt: TypeAlias = Annotated[fields.Prompt, Field(max_length=32768)]
# A text in JSON, the bytes of a file in a form.
Upload: TypeAlias = Annotated[
    str | bytes,
    PlainValidator(_upload),
    _written(fields.WEB_URL, fields.DATA_URL, fields.BASE64),
]
Inline: TypeAlias = Annotated[
    str | bytes, PlainValidator(_upload), _written(fields.DATA_URL, fields.BASE64)
]
Link: TypeAlias = Annotated[str, Field(min_length=1), _written(fields.WEB_URL, fields.DATA_URL)]
AnonUser: TypeAlias = Annotated[str, Field(max_length=128, pattern=r"^[ -~]*$")]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """An object in which an unknown key is a mistake."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Thinking(Strict):
    """What no model here has: a prompt rewritten before it is painted."""

    enhance_prompt: Flag = None
    disable_prompt_optimization_thinking: Flag = None


class Edit(Thinking):
    """The body of `POST /image/edit`; `model` wins over `modelId`."""

    model_config = ConfigDict(protected_namespaces=())

    image: Upload
    prompt: LongPrompt
    model: Name | None = None
    modelId: Annotated[Name, Field(json_schema_extra={"deprecated": True})] | None = None
    aspect_ratio: Ratios | None = None
    resolution: fields.Tier | None = None
    output_format: fields.OutputFormat | None = None
    safe_mode: Flag = None
    quality: Grade | None = None
    anon_user_id: AnonUser | None = None


class MultiEdit(Thinking):
    """The body of `POST /image/multi-edit`: the first image is the base."""

    model_config = ConfigDict(protected_namespaces=())

    images: Annotated[list[Upload], Field(min_length=1, max_length=16)]
    prompt: LongPrompt
    modelId: Name | None = None
    aspect_ratio: Ratios | None = None
    resolution: Annotated[str, Field(min_length=1, max_length=10)] | None = None
    output_format: fields.OutputFormat | None = None
    safe_mode: Flag = None
    quality: Grade | None = None


class StyleReference(Strict):
    """An image whose style is to be followed."""

    image: Annotated[str, Field(min_length=1)]
    strength: Annotated[Number, Field(ge=0.1, le=1)] | None = None


def _none(value: object) -> object:
    if value is not None:
        raise ValueError("is no longer supported; edit images with POST /image/edit")
    return value


Side: TypeAlias = Annotated[int, Field(ge=1, le=1280), Integral]
Format: TypeAlias = fields.OutputFormat
# The bytes of a picture are those of one.
TOO_MUCH_FOR_BINARY: dict[str, Any] = {
    "properties": {
        "return_binary": {"const": True},
        "variants": {"type": "integer", "minimum": 2},
    },
    "required": ["return_binary", "variants"],
}


class Generate(Thinking):
    """The body of `POST /image/generate`."""

    model_config = ConfigDict(json_schema_extra={"not": TOO_MUCH_FOR_BINARY})

    model: Name
    prompt: Annotated[fields.Prompt, Field(max_length=7500)]
    negative_prompt: Annotated[str, Field(max_length=7500), Clean] | None = None
    width: Side | None = None
    height: Side | None = None
    aspect_ratio: Ratio | None = None
    resolution: fields.Tier | None = None
    quality: Grade | None = None
    cfg_scale: Annotated[Number, Field(gt=0, le=20)] | None = None
    steps: Annotated[int, Field(ge=1, le=1000), Integral] | None = None
    seed: Annotated[int, Field(ge=-999_999_999, le=999_999_999), Integral] | None = None
    variants: Annotated[int, Field(ge=1, le=4), Integral] | None = None
    format: Format | None = None
    return_binary: Flag = None
    style_preset: Annotated[str, Field(max_length=100), Clean] | None = None
    # No model here takes any.
    style_references: (
        Annotated[list[StyleReference], Field(max_length=16, json_schema_extra={"maxItems": 0})]
        | None
    ) = None
    lora_strength: Annotated[int, Field(ge=0, le=100), Integral] | None = None
    safe_mode: Flag = None
    hide_watermark: Flag = None
    embed_exif_metadata: Flag = None
    enable_web_search: Flag = None
    anon_user_id: AnonUser | None = None
    inpaint: Annotated[None, BeforeValidator(_none)] = None


Dimensions: TypeAlias = Literal[
    "auto", "256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792"
]


class Generations(Strict):
    """The body of `POST /images/generations`, in OpenAI's words."""

    prompt: Annotated[fields.Prompt, Field(max_length=1500)]
    model: Name | None = None
    n: Annotated[int, Field(ge=1, le=1), Integral] | None = None
    size: Dimensions | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: fields.OutputFormat | None = None
    output_compression: Annotated[int, Field(ge=0, le=100), Integral] | None = None
    quality: Literal["auto", "high", "medium", "low", "hd", "standard"] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    style: Literal["vivid", "natural"] | None = None
    moderation: Literal["low", "auto"] | None = None
    user: Annotated[str, Field(max_length=256), Clean] | None = None


class Upscale(fields.Shape):
    """The body of `POST /image/upscale`. Unknown keys are no mistake."""

    image: Inline
    scale: Annotated[Number, Field(ge=2, le=4)] | None = None
    creativity: Number | None = None
    enhance: Any = None
    enhanceCreativity: Number | None = None
    enhancePrompt: str | None = None
    replication: Number | None = None


class Cutout(Strict):
    """The body of `POST /image/background-remove`: exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": "string"}}, "maxProperties": 1}
                for name in ("image", "image_url")
            ]
        }
    )

    image: Inline | None = None
    image_url: Link | None = None


Kind: TypeAlias = Literal[
    "asr",
    "embedding",
    "image",
    "music",
    "text",
    "tts",
    "upscale",
    "inpaint",
    "video",
    "all",
    "code",
]


# -- The wire: what goes out ----------------------------------------------------------------------


class StandardError(BaseModel):
    """What went wrong, in one sentence."""

    error: str


class DetailedError(StandardError):
    """Which fields are at fault: `details.<field>._errors`, and the same as a list."""

    details: dict[str, Any]
    issues: list[dict[str, Any]]


class PayloadTooLarge(StandardError):
    """A file, or the body as a whole, has too many bytes."""

    code: Literal["PAYLOAD_TOO_LARGE"]


class Timing(BaseModel):
    """In milliseconds; preprocessing is all that is neither waiting nor painting."""

    inferenceDuration: float
    inferencePreprocessingTime: float
    inferenceQueueTime: float
    total: float


class Echo(BaseModel):
    """The request as it was understood, with the seed that was used."""

    success: bool
    data: dict[str, Any]


class Generated(BaseModel):
    """The answer of `POST /image/generate`; the images are bare base64."""

    id: str
    images: list[str]
    timing: Timing
    request: Echo


class Datum(BaseModel):
    """One picture; `url` is a data URL."""

    b64_json: str | None = None
    url: str | None = None


class Created(BaseModel):
    """The answer of `POST /images/generations`; `created` is in unix seconds."""

    created: int
    data: list[Datum]


class Styles(BaseModel):
    """The names that `style_preset` takes."""

    object: Literal["list"]
    data: list[str]


class Models(BaseModel):
    """The models of a type."""

    object: Literal["list"]
    type: str
    data: list[dict[str, Any]]


class Traits(BaseModel):
    """Names that stand for models."""

    object: Literal["list"]
    type: str
    data: dict[str, str]
