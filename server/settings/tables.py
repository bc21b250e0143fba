"""The tables of a configuration file as frozen values; docs/config.md describes every key.

Right by construction, each by itself and all together. Knows nothing of files or the environment.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from models.contract import SCHEDULERS, Dtype, Offload, Task
from server.library.snapshots import HF, Repository
from server.settings import lossy
from server.settings.addresses import (
    bare_host,
    database,
    fetched_from,
    host_name,
    is_loopback,
    origin,
    shelf,
    url,
)
from server.sizes import MAX_SIDE, MIN_SIDE, Size, Sizing

TASKS: tuple[Task, ...] = ("generate", "edit", "inpaint")
KEY_CHARS = 32  # of a signing key
DEMO = "demo:"  # a path that starts so names a folder that ships with the package


def _size(value: object) -> Size:
    return value if isinstance(value, Size) else Size.parse(str(value))


def _at_home(path: Path) -> Path:
    try:
        return (path.expanduser() if str(path).startswith("~") else path).absolute()
    except RuntimeError as error:
        raise ValueError(f"{path} starts at a home folder, and there is no known home") from error


def _key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < KEY_CHARS:
        raise ValueError(f"each must have at least {KEY_CHARS} characters, all of them random")
    return key


def _template(text: str) -> str:
    if text.count("{prompt}") != 1:
        raise ValueError("must hold {prompt} exactly once")
    return text


def _ordered(low_high: tuple[float, float]) -> tuple[float, float]:
    if low_high[0] > low_high[1]:
        raise ValueError("must name the lower end first")
    return low_high


def _model_path(text: str) -> str:
    if text.startswith(DEMO) and not text.removeprefix(DEMO).replace("-", "_").isidentifier():
        raise ValueError(f'must name a model that ships with limner, like "{DEMO}sketch"')
    if text.startswith(HF):
        return Repository.parse(text).path
    return str(_at_home(Path(text))) if text.startswith("~") else text


def _preview_path(text: str) -> str:
    if text.startswith(HF):
        raise ValueError("must name a folder: a repository is not looked up here")
    return _model_path(text)


def _enlarger_path(text: str) -> str:
    return _model_path(text) if text.startswith(DEMO) else _lora_path(text)


def _lora_path(text: str) -> str:
    if not text.endswith(".safetensors"):
        raise ValueError("must lead to a .safetensors file; nothing else is opened")
    return str(_at_home(Path(text))) if text.startswith("~") else text


def name_key(name: str) -> str:
    """What a style's name is compared by: no case, and spaces, `-` and `_` are one."""
    return " ".join(name.replace("-", " ").replace("_", " ").casefold().split())


AnySize: TypeAlias = Annotated[Size, PlainValidator(_size)]
Folder: TypeAlias = Annotated[Path, AfterValidator(_at_home)]
Url: TypeAlias = Annotated[str, AfterValidator(url)]
ShelfUrl: TypeAlias = Annotated[str, AfterValidator(shelf)]
DatabaseUrl: TypeAlias = Annotated[str, AfterValidator(database)]
Hosts: TypeAlias = Annotated[
    Literal["off", "public"] | tuple[str, ...], PlainValidator(fetched_from)
]
Key: TypeAlias = Annotated[SecretStr, AfterValidator(_key)]
HostName: TypeAlias = Annotated[str, AfterValidator(host_name)]
Origin: TypeAlias = Annotated[str, AfterValidator(origin)]
Slug: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
Device: TypeAlias = Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3})$")]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Steps: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
Guidance: TypeAlias = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


SCHEDULED = ("sd", "sdxl")  # families that let a noise schedule be chosen
Family: TypeAlias = Literal[
    "sd", "sdxl", "sd3", "flux", "flux2", "qwen-image", "z-image", "generic", "toy"
]


class Table(BaseModel):
    """A table of the file: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerTable(Table):
    """`[server]`"""

    host: Annotated[str, AfterValidator(bare_host)] = "127.0.0.1"
    port: int = Field(default=8484, ge=0, le=65535)
    public_url: Url = ""
    data_dir: Folder = Field(default=Path("~/.local/share/limner"), validate_default=True)
    artifacts: ShelfUrl = ""
    artifacts_endpoint: Url = ""
    signing_keys: tuple[Key, ...] = ()
    database: DatabaseUrl = ""
    keep_prompts: bool = False
    url_fetch: Hosts = "public"
    allowed_hosts: tuple[HostName, ...] = ()
    allowed_origins: tuple[Origin, ...] = ()
    grace_seconds: float = Field(default=30, ge=0, allow_inf_nan=False)
    insecure_open: bool = Field(default=False, validate_default=True)

    @field_validator("insecure_open")
    @classmethod
    def _meant(cls, insecure_open: bool, info: ValidationInfo) -> bool:
        host = info.data.get("host", "localhost")
        if not insecure_open and not is_loopback(host):
            raise ValueError(
                f'must be true (or --insecure-open be given) to listen on "{host}": other '
                "machines may reach that, and nobody has to sign in"
            )
        return insecure_open


class WorkerTable(Table):
    """`[worker]`"""

    device: Device = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    memory_bytes: int = Field(default=0, ge=0)
    start_seconds: Seconds = 120
    preview_steps: int = Field(default=4, ge=1)


class LimitsTable(Table):
    """`[limits]`"""

    body_bytes: int = Field(default=64 * 2**20, ge=1024)
    image_bytes: int = Field(default=25 * 2**20, ge=1024)
    image_pixels: int = Field(default=7680 * 4320, ge=MIN_SIDE**2)
    image_side: int = Field(default=8192, ge=MIN_SIDE)
    decode_seconds: Seconds = 5
    decoders: int = Field(default=1, ge=1)
    waiting: int = Field(default=256, ge=1)
    output_pixels: int = Field(default=4096**2, ge=MIN_SIDE * MAX_SIDE)
    prompt_chars: int = Field(default=32768, ge=1)
    fetch_seconds: Seconds = 10
    fetches: int = Field(default=4, ge=1, le=64)
    artifact_hours: float = Field(default=24, ge=1, le=24 * 365)
    artifact_bytes: int = Field(default=8 * 2**30, ge=2**20)
    upload_bytes: int = Field(default=50 * 2**20, ge=1024)
    job_days: float = Field(default=30, ge=1 / 24, le=3650)


class QualityTable(Table):
    """`quality` of a `[[model]]`: steps."""

    low: Steps
    medium: Steps
    high: Steps


class ModelTable(Table):
    """`[[model]]`"""

    id: Slug
    family: Family
    path: Annotated[str, AfterValidator(_model_path)] = ""
    base: Annotated[str, AfterValidator(_model_path)] = ""
    preview: Annotated[str, AfterValidator(_preview_path)] = ""
    enlarger: Annotated[str, AfterValidator(_enlarger_path)] = ""
    dtype: Dtype = "auto"
    scheduler: str = ""
    native: tuple[AnySize, ...] = Field(min_length=1)
    multiple: int = Field(default=8, ge=8, le=256, multiple_of=8)
    max_pixels: int | None = Field(default=None, ge=1)
    max_aspect: float = Field(default=MAX_SIDE / MIN_SIDE, ge=1, le=MAX_SIDE / MIN_SIDE)
    default_size: AnySize | None = None
    steps: Steps = 30
    steps_range: Annotated[tuple[Steps, Steps], AfterValidator(_ordered)] = (1, 100)
    guidance: Guidance = 7.5
    guidance_range: Annotated[tuple[Guidance, Guidance], AfterValidator(_ordered)] = (0.0, 30.0)
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
        yield from self._size_problems()
        asked = {key: getattr(self, key) for key in lossy.FAMILIES}
        yield from lossy.problems(self.family, asked, self.offload)
        tiers = self.steps_by_quality
        for name, steps in {"steps": self.steps, **tiers.model_dump()}.items():
            if not self.steps_range[0] <= steps <= self.steps_range[1]:
                label = name if name == "steps" else f"quality.{name}"
                yield f"{label} must be inside steps_range {list(self.steps_range)}, not {steps}"
        if self.pinned and (self.keep_seconds or self.preload is False):
            yield "pinned models are loaded at the start and kept; leave the other key out"
        if self.compile and self.offload == "all":
            yield 'compile must be left out with offload = "all": what travels is not compiled'
        if not self.guidance_range[0] <= self.guidance <= self.guidance_range[1]:
            yield f"guidance must be inside guidance_range {list(self.guidance_range)}"

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
    path: Annotated[str, AfterValidator(_lora_path)]
    model: str
    weight: float = Field(default=1.0, ge=-4, le=4)
    always: bool = False


class StyleTable(Table):
    """`[[style]]`"""

    name: str = Field(min_length=1, max_length=64)
    prompt: Annotated[str, AfterValidator(_template)]
    negative_prompt: str = ""
    lora: str = ""


class Config(Table):
    """A whole configuration, its `include`d tables among its own."""

    include: tuple[str, ...] = ()
    model_dirs: tuple[str, ...] = ()
    server: ServerTable = Field(default_factory=ServerTable)
    worker: WorkerTable = Field(default_factory=WorkerTable)
    limits: LimitsTable = Field(default_factory=LimitsTable)
    model: tuple[ModelTable, ...] = Field(min_length=1)
    alias: tuple[AliasTable, ...] = ()
    lora: tuple[LoraTable, ...] = ()
    style: tuple[StyleTable, ...] = ()

    def loads_ahead(self, model: ModelTable) -> bool:
        """Whether a model is loaded before the server is ready: the first is, unless it says no."""
        if model.preload is None:
            return model.pinned or model is self.model[0]
        return model.preload or model.pinned

    @property
    def names(self) -> Mapping[str, str]:
        """Alias → id of its model."""
        said = {name: alias.model for alias in self.alias if alias.model for name in alias.names}
        taken = {model.id for model in self.model} | {name.lower() for name in said}
        others = [name for alias in self.alias if not alias.model for name in alias.names]
        first = self.model[0].id
        return said | {name: first for name in others if name.lower() not in taken}

    @model_validator(mode="after")
    def _coherent(self) -> "Config":
        if problems := [*self._problems()]:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        ids = [model.id for model in self.model]
        said = [alias for alias in self.alias if alias.model]
        names = [name.lower() for alias in said for name in alias.names]
        styles = [name_key(style.name) for style in self.style]
        for twice in _repeated(ids):
            yield f'[[model]] id: two models are called "{twice}"'
        for twice in _repeated(names):
            yield f'[[alias]] names: "{twice}" is there twice'
        for name in sorted({*ids} & {*names}):
            yield f'[[alias]] names: "{name}" is the id of a model'
        for twice in _repeated(styles):
            yield f'[[style]] name: two styles are called "{twice}"'
        for alias in said:
            if alias.model not in ids:
                yield f'[[alias]] model: there is no model "{alias.model}"; there are {ids}'
        yield from self._lora_problems()
        for model in self.model:
            if model.sizing.default.area > self.limits.output_pixels:
                yield f"[[model]] {model.id}: default_size is over limits.output_pixels"

    def _lora_problems(self) -> Iterator[str]:
        families = {model.id: model.family for model in self.model}
        for lora in self.lora:
            if lora.model not in families:
                known = [*families]
                yield f'[[lora]] {lora.name}: there is no model "{lora.model}"; there are {known}'
            elif families[lora.model] == "generic":
                yield f"[[lora]] {lora.name}: models of the generic family wear none"
        for twice in _repeated([f"{lora.name} of {lora.model}" for lora in self.lora]):
            yield f"[[lora]] name: {twice} is there twice"
        names = sorted({lora.name for lora in self.lora})
        for style in self.style:
            if style.lora and style.lora not in names:
                yield f'[[style]] {style.name}: there is no LoRA "{style.lora}"; there are {names}'


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
