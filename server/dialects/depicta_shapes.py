"""What Depicta's requests and answers look like on the wire, as pydantic shapes.

Ranges that Depicta documents, and nothing of what the fields do.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field

from server.edge import fields

REFERENCES = 5
COMBINED = (2, 5)
ADDRESS_CHARS = 100 * 2**20  # it may be a data URL; the body has a limit of its own

# -- The wire: what comes in ----------------------------------------------------------------------


def _several(urls: list[str]) -> list[str]:
    low, high = COMBINED
    if not low <= len(urls) <= high:
        raise ValueError(f"must have {low} to {high} entries, not {len(urls)}")
    return urls


Ratio: TypeAlias = Literal["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
Address: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=ADDRESS_CHARS,
        json_schema_extra={"pattern": f"^({fields.WEB_URL}|{fields.DATA_URL})$"},
    ),
    fields.Clean,
]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1000), fields.Integral]


class Reference(fields.Shape):
    """An image to be looked at, and what it shows."""

    url: Address
    description: Annotated[str, Field(max_length=2000), fields.Clean]


class Generate(fields.Shape):
    """The body of `POST /generate/image`; null is the same as absent."""

    prompt: fields.Prompt
    model: Annotated[str, Field(min_length=1, max_length=200), fields.Clean] | None = None
    aspect_ratio: Ratio | None = None
    image_size: fields.Tier | None = None
    reference_images: Annotated[list[Reference], Field(max_length=REFERENCES)] | None = None
    strictness: Literal["normal", "liberal"] | None = None
    n: Annotated[int, Field(ge=1, le=4), fields.Integral] | None = None
    negative_prompt: fields.Text | None = None
    seed: fields.Seed | None = None
    steps: Count | None = None
    guidance: Annotated[float, Field(ge=0, le=50)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    strict: bool | None = None


class Edit(Generate):
    """The body of `POST /edit/image`."""

    input_image_url: Address


class Combine(Generate):
    """The body of `POST /combine/image`."""

    input_image_urls: Annotated[
        list[Address],
        AfterValidator(_several),
        Field(json_schema_extra={"minItems": COMBINED[0], "maxItems": COMBINED[1]}),
    ]


# -- The wire: what goes out, for the documentation; a test holds answers against it --------------


class Variant(BaseModel):
    """One file of a picture. `hash` is the SHA-256 of its bytes, in hex."""

    expires_at: str
    format: Literal["png", "jpeg", "webp"]
    hash: str
    size_bytes: int
    url: str


class Generation(BaseModel):
    """An answer. `image_url` and `image_hash` are those of the PNG of the first image."""

    ai_generated: Literal[True]
    balance_eur: str
    cost_eur: str
    formats: dict[str, Variant] | None = None
    id: str
    image_hash: str | None = None
    image_hashes: list[str] | None = None
    image_url: str | None = None
    image_urls: list[str] | None = None
    model: str


class Uploaded(BaseModel):
    """Where an uploaded image can be fetched, and until when."""

    upload_url: str
    image_url: str
    expires_at: str


class Job(BaseModel):
    """A request, as it stands; once it is completed, with what was answered, in both places."""

    job_id: str
    status: Literal["pending", "processing", "completed", "failed"]
    created_at: str
    finished_at: str | None = None
    model: str
    operation: str
    result: Generation | None = None
    formats: dict[str, Variant] | None = None
    image_url: str | None = None
    image_hash: str | None = None
    error: str | None = None
    message: str | None = None


class Generations(BaseModel):
    """The newest requests, the newest first."""

    generations: list[Job]


class User(BaseModel):
    """Whoever asks."""

    email: str
    balance_eur: str
    held_eur: str


class Profile(BaseModel):
    """The account of whoever asks."""

    user: User


class Error(BaseModel):
    """A refusal. `details` says what is wrong with each field."""

    error: str
    message: str
    details: dict[str, str] | None = None
    request_id: str | None = None


Document: TypeAlias = dict[str, Any]
