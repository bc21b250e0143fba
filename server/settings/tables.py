"""The tables of a configuration file as frozen values; docs/config.md describes every key.

Right by construction, each by itself and all together. Knows nothing of files or the environment.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from server.settings.addresses import (
    bare_host,
    is_loopback,
)
from server.settings.kinds import (
    DatabaseUrl,
    Device,
    Folder,
    HostName,
    Hosts,
    Key,
    Origin,
    Seconds,
    ShelfUrl,
    Table,
    Url,
    name_key,
)
from server.settings.offers import (
    AliasTable,
    LoraTable,
    ModelTable,
    StyleTable,
)
from server.sizes import MAX_SIDE, MIN_SIDE


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
