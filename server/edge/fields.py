"""Types of request fields that dialects share: strict where a wrong value would act, lenient where
clients are known to differ. Knows no dialect; limits of a single dialect are put around these."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from server.sizes import MAX_SIDE

METADATA_BYTES = 4096
METADATA_DEPTH = 32
MAX_RATIO = 64
# For descriptions: what may stand for an image. Code tells more exactly.
BASE64 = r"([A-Za-z0-9+/]{4})+"
DATA_URL = f"data:image/(png|jpeg|webp);base64,{BASE64}"
WEB_URL = r"https?://[!-~]+"
_TERM = r"\s*(0{0,2}[1-9]|0?[1-5][0-9]|0?6[0-4])\s*"  # 1 to 64


class Shape(BaseModel):
    """A JSON object as a dialect documents it. Unknown keys are kept aside, to be named."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


def unknown_keys(shape: BaseModel) -> tuple[str, ...]:
    """Keys of the object that its shape does not have, in the order sent."""
    return tuple(shape.model_extra or ())


def _integral(value: object) -> object:
    """JSON has one kind of number: 2.0 is a whole one. (2 ** 53: beyond, floats skip numbers.)"""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value


def _pixels(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,6}", value):
            raise ValueError('must be a whole number of pixels, such as "1024"')
        return int(value)
    return _integral(value)


def _ratio(text: str) -> str:
    match = re.fullmatch(r"\s*([0-9]{1,3})\s*:\s*([0-9]{1,3})\s*", text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= MAX_RATIO for side in sides):
        raise ValueError(f'must be like "16:9", with whole numbers from 1 to {MAX_RATIO}')
    return f"{sides[0]}:{sides[1]}"


def _clean(text: str) -> str:
    # Tokenizers, logs and PNG text chunks all end or break at a NUL.
    if "\0" in text:
        raise ValueError("must not contain the character U+0000")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _jpeg(value: object) -> object:
    return "jpeg" if value == "jpg" else value


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    # Depth first: what nests too deep cannot be written, here or inside an answer.
    if _deeper_than(METADATA_DEPTH, metadata):
        raise ValueError(f"must not nest deeper than {METADATA_DEPTH} levels")
    if len(msgspec.json.encode(metadata)) > METADATA_BYTES:
        raise ValueError(f"must not exceed {METADATA_BYTES} bytes of JSON")
    return metadata


def _deeper_than(depth: int, value: object) -> bool:
    level = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast(dict[str, object], value).values()
    return cast(list[object], value) if isinstance(value, list) else ()


Integral = BeforeValidator(_integral)  # on an int: 2.0 is 2; true, "2" and 2.5 are refused
Clean = AfterValidator(_clean)  # on a str: without U+0000
Pixels: TypeAlias = Annotated[
    int,
    Field(ge=1, le=MAX_SIDE),
    BeforeValidator(_pixels),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^0{0,2}[1-9][0-9]{0,3}$"},
                {"type": "integer", "minimum": 1, "maximum": MAX_SIDE},
            ]
        }
    ),
]
Ratio: TypeAlias = Annotated[
    str,
    AfterValidator(_ratio),
    Field(examples=["16:9"], json_schema_extra={"pattern": f"^{_TERM}:{_TERM}$"}),
]
Text: TypeAlias = Annotated[str, Clean]
Prompt: TypeAlias = Annotated[
    str,
    AfterValidator(_said),
    Clean,
    Field(json_schema_extra={"pattern": r"[^\s\x1c-\x1f\x85]"}),  # all that is space here
]
Seed: TypeAlias = Annotated[int, Field(ge=-1, le=2**31 - 1), Integral]
Tier: TypeAlias = Annotated[Literal["1K", "2K", "4K"], BeforeValidator(_upper)]
OutputFormat: TypeAlias = Annotated[Literal["png", "jpeg", "webp"], BeforeValidator(_jpeg)]
Metadata: TypeAlias = Annotated[dict[str, Any], AfterValidator(_small)]
