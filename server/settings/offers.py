"""The tables of what is offered: models with their aliases, adapters and styles.

Right by construction, each by itself. Knows nothing of files or the environment.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from models.contract import SCHEDULERS, Dtype, Offload, Task
from server.settings import lossy
from server.settings.kinds import (
    AnySize,
    Guidance,
    Name,
    Slug,
    Steps,
    Table,
    enlarger_path,
    model_path,
    ordered,
    preview_path,
    template,
    weights_path,
)
from server.sizes import MAX_SIDE, MIN_SIDE, Sizing

TASKS: tuple[Task, ...] = ("generate", "edit", "inpaint")
# Families whose networks may be compiled, and those whose forwards may be recorded. Of Z-Image the
# rows are uneven, and Qwen-Image keeps its positions where a recording would not find them again.
COMPILED = ("sd", "sdxl", "sd3", "flux", "flux2", "qwen-image", "z-image")
RECORDED = ("sd", "sdxl", "sd3", "flux", "flux2")
SCHEDULED = ("sd", "sdxl")  # families that let a noise schedule be chosen
Family: TypeAlias = Literal[
    "sd", "sdxl", "sd3", "flux", "flux2", "qwen-image", "z-image", "generic", "toy"
]


class QualityTable(Table):
    """`quality` of a `[[model]]`: steps."""

    low: Steps
    medium: Steps
    high: Steps


class ModelTable(Table):
    """`[[model]]`"""

    id: Slug
    family: Family
    path: Annotated[str, AfterValidator(model_path)] = ""
    base: Annotated[str, AfterValidator(model_path)] = ""
    preview: Annotated[str, AfterValidator(preview_path)] = ""
    enlarger: Annotated[str, AfterValidator(enlarger_path)] = ""
    dtype: Dtype = "auto"
    scheduler: str = ""
    native: tuple[AnySize, ...] = Field(min_length=1)
    multiple: int = Field(default=8, ge=8, le=256, multiple_of=8)
    max_pixels: int | None = Field(default=None, ge=1)
    max_aspect: float = Field(default=MAX_SIDE / MIN_SIDE, ge=1, le=MAX_SIDE / MIN_SIDE)
    default_size: AnySize | None = None
    steps: Steps = 30
    steps_range: Annotated[tuple[Steps, Steps], AfterValidator(ordered)] = (1, 100)
    guidance: Guidance = 7.5
    guidance_range: Annotated[tuple[Guidance, Guidance], AfterValidator(ordered)] = (0.0, 30.0)
    quality: QualityTable | None = None
    strength: float = Field(default=0.6, gt=0, le=1)
    tasks: tuple[Task, ...] | None = Field(default=None, min_length=1)
    instructs: bool = False
    max_inputs: int = Field(default=1, ge=1)
    negative_prompt: bool = True
    prompt_chars: int | None = Field(default=None, ge=1)
    max_batch: int = Field(default=4, ge=1, le=64)
    offload: Offload = "none"
    compile: bool = False
    graphs: bool = False
    fp8: bool = False
    step_cache: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    step_forecast: int = Field(default=0, ge=0, le=10)
    preload: bool | None = None
    pinned: bool = False
    keep_seconds: float = Field(default=0, ge=0, allow_inf_nan=False)

    @property
    def sizing(self) -> Sizing:
        """The sizes it paints and answers with, defaults filled in."""
        largest = max(size.area for size in self.native)
        return Sizing(
            native=self.native,
            multiple=self.multiple,
            max_pixels=self.max_pixels or largest * 3 // 2,
            max_aspect=self.max_aspect,
            default=self.default_size or self.native[0],
            enlarger=bool(self.enlarger),
        )

    @property
    def steps_by_quality(self) -> QualityTable:
        """The `quality` table, derived from `steps` if there is none."""
        if self.quality:
            return self.quality
        low, high = self.steps_range
        half, double = (round(self.steps * factor) for factor in (0.5, 2))
        return QualityTable(low=max(low, half), medium=self.steps, high=min(high, double))

    @property
    def able(self) -> tuple[Task, ...]:
        """The tasks it is offered for."""
        return self.tasks or (TASKS if self.family != "generic" else ("generate",))

    @model_validator(mode="after")
    def _coherent(self) -> "ModelTable":
        if problems := [*self._problems()]:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if (self.family == "toy") != (not self.path):
            yield "path is required" if not self.path else "path must be left out: toy has none"
        if self.family not in SCHEDULED and self.scheduler:
            yield f"scheduler must be left out: only {' and '.join(SCHEDULED)} have a choice"
        elif self.scheduler and self.scheduler not in SCHEDULERS:
            yield f"scheduler must be one of {', '.join(SCHEDULERS)}, not {self.scheduler!r:.60}"
        if self.family == "toy" and self.enlarger:
            yield "enlarger must be left out: toy has none"
        yield from self._speed_problems()
        yield from self._size_problems()
        tiers = self.steps_by_quality
        for name, steps in {"steps": self.steps, **tiers.model_dump()}.items():
            if not self.steps_range[0] <= steps <= self.steps_range[1]:
                label = name if name == "steps" else f"quality.{name}"
                yield f"{label} must be inside steps_range {list(self.steps_range)}, not {steps}"
        if self.pinned and (self.keep_seconds or self.preload is False):
            yield "pinned models are loaded at the start and kept; leave the other key out"
        if not self.guidance_range[0] <= self.guidance <= self.guidance_range[1]:
            yield f"guidance must be inside guidance_range {list(self.guidance_range)}"

    def _speed_problems(self) -> Iterator[str]:
        for key, families in {"compile": COMPILED, "graphs": RECORDED}.items():
            if getattr(self, key) and self.family not in families:
                yield f"{key} must be left out: only {', '.join(families)} can do it"
            elif getattr(self, key) and self.offload == "all":
                yield f'{key} must be left out with offload = "all", whose weights travel'
        asked = {key: getattr(self, key) for key in lossy.FAMILIES}
        yield from lossy.problems(self.family, asked, self.offload)

    def _size_problems(self) -> Iterator[str]:
        if any(side % self.multiple for size in self.native for side in (size.width, size.height)):
            yield f"native: every side must be a multiple of {self.multiple}"
        sizing = self.sizing
        if sizing.max_pixels < max(size.area for size in self.native):
            yield "max_pixels must be at least the area of the largest native size"
        answer = sizing.default
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in (answer.width, answer.height)):
            yield f"default_size must have sides from {MIN_SIDE} to {MAX_SIDE}, not {answer}"


class AliasTable(Table):
    """`[[alias]]`; without a model, of the first one, for names that nothing else is called by."""

    model: str = ""
    names: tuple[Name, ...] = Field(min_length=1)


class LoraTable(Table):
    """`[[lora]]`"""

    name: Slug
    path: Annotated[str, AfterValidator(weights_path)]
    model: str
    weight: float = Field(default=1.0, ge=-4, le=4)
    always: bool = False


class StyleTable(Table):
    """`[[style]]`"""

    name: str = Field(min_length=1, max_length=64)
    prompt: Annotated[str, AfterValidator(template)]
    negative_prompt: str = ""
    lora: str = ""
