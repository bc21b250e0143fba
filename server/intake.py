"""From what a dialect understood to what is going to be painted: `Draft` in, `Order` out.

The one place where presets, defaults, ranges, seeds and sizes are decided. Pure: it sees the sizes of
the input images, never their pixels, and is given its source of random seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from models.contract import Job
from server.catalog import Size

Format: TypeAlias = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a request asked for that did not act, or acted differently."""

    param: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A request as its dialect understood it: still relative ("16:9", "2K", style "anime").

    `None` means "not asked for". Values are inside the dialect's documented ranges already; whether
    the model can do them is for `resolve`. `ignored` lists what the dialect itself could not honour.
    """

    dialect: str
    task: Literal["generate", "edit"]
    model: str
    prompt: str
    negative_prompt: str = ""
    n: int = 1
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None  # "16:9"
    resolution: str | None = None  # "1K", "2K", "4K"
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    quality: Literal["low", "medium", "high"] | None = None
    style: str | None = None  # free text, or a preset's name
    style_preset: str | None = None  # a preset's name
    images: tuple[bytes, ...] = ()  # encoded files, the base first
    mask: bytes | None = None  # an encoded file
    output_format: Format = "png"
    embed_metadata: bool = False
    preview: bool = False  # the client listens to progress
    strict: bool = False
    user: str | None = None  # for the audit line only
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])  # stored and echoed
    ignored: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request made absolute: the worker's job, and what becomes of its images afterwards."""

    draft: Draft
    job: Job
    output: Size  # px of the delivered pictures; equals the paint size or is scaled to
    notices: tuple[Notice, ...]
