"""Reading a configuration: one TOML file, then `LIMNER_*` variables, then flags.

The only module that reads the environment. Every mistake becomes one `ConfigError`. Knows nothing
of requests; what the tables mean is in `tables`.
"""

import importlib.resources
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, get_origin

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from models.contract import LoraSpec, ModelSpec, WorkerSpec
from server.mistakes import LISTS, TABLES, explain, is_sequel
from server.tables import DEMO, Config, ModelTable
from server.traits import INDEX, traits

__all__ = ["Config", "ConfigError", "load", "missing", "model_spec", "shipped", "worker_spec"]

PREFIX = "LIMNER_"
Tree: TypeAlias = dict[str, Any]


class ConfigError(Exception):
    """What is wrong with the configuration, for people: the file, the key and what is allowed."""


class Environment(BaseSettings):
    """The `LIMNER_<TABLE>__<KEY>` variables, unchecked."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_nested_max_split=1
    )

    server: Tree = {}
    worker: Tree = {}
    limits: Tree = {}


def load(
    path: Path | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    models: Sequence[tuple[str, str]] = (),
) -> Config:
    """Read a configuration; `path` None is the shipped one.

    `overrides` are flags as `{"server": {"port": 80}}`; a None in them is a flag not given.
    `models` are ids and paths of models to go before those of the file, or to be the only ones.

    Raises:
        ConfigError: with all that is wrong, one line each.
    """
    path = path or shipped("bare.toml" if models else "demo.toml")
    flags = {
        table: {key: value for key, value in keys.items() if value is not None}
        for table, keys in (overrides or {}).items()
    }
    tree, origins = _read(path)
    named = [_named(*each) for each in models]
    if named:
        tree["model"] = [*named, *tree.get("model", ())]
        origins["model"] = [*(Path("command line") for _ in named), *origins["model"]]
    layers = {"environment": _environment(), "command line": flags}
    source = Source(path, tree, origins, layers)
    try:
        return Config.model_validate(source.merged())
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        lines = [source.explain(mistake) for mistake in mistakes if not is_sequel(mistake)]
        raise ConfigError("\n".join(lines)) from None


def shipped(name: str) -> Path:
    """A configuration that ships with limner, in an installed package or in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def worker_spec(config: Config) -> WorkerSpec:
    """What the (one) worker is told: of the models whose folders are there.

    Raises:
        ConfigError: no model has its folder.
    """
    absent = missing(config)
    if len(absent) == len(config.model):
        raise ConfigError("\n".join(absent.values()))
    return WorkerSpec(
        name=config.worker.device,
        device=config.worker.device,
        threads=config.worker.threads,
        memory=config.worker.memory_bytes,
        models=tuple(
            msgspec.structs.replace(
                model_spec(model, config.loads_ahead(model)), loras=_loras(config, model.id)
            )
            for model in config.model
            if model.id not in absent
        ),
    )


def model_spec(model: ModelTable, preload: bool = True) -> ModelSpec:
    """What a worker is told of a model; it warms up on the first native size."""
    return ModelSpec(
        id=model.id,
        family=model.family,
        path=str(_folder(model.path)) if model.path else "",
        dtype=model.dtype,
        scheduler=model.scheduler,
        width=model.native[0].width,
        height=model.native[0].height,
        max_batch=model.max_batch,
        offload=model.offload,
        preload=preload,
        pinned=model.pinned,
        keep_seconds=model.keep_seconds,
    )


def _folder(path: str) -> Path:
    """What the path of a model leads to."""
    if path.startswith(DEMO):
        return Path(str(importlib.resources.files("models"))) / "demo" / path.removeprefix(DEMO)
    return Path(path).expanduser()


def _loras(config: Config, model: str) -> tuple[LoraSpec, ...]:
    """The adapters of a model.

    Raises:
        ConfigError: a file is missing.
    """
    mine = [lora for lora in config.lora if lora.model == model]
    for lora in mine:
        if not Path(lora.path).is_file():
            raise ConfigError(f"[[lora]] {lora.name}: there is no file {lora.path}")
    return tuple(LoraSpec(lora.name, lora.path) for lora in mine)


def missing(config: Config) -> dict[str, str]:
    """The models that cannot be loaded for want of a folder, and what to tell of each."""
    folders = {model: _folder(model.path) for model in config.model if model.path}
    return {
        model.id: (
            f'[[model]] {model.id}: path "{model.path}" leads to {folder}, which is not a folder'
        )
        for model, folder in folders.items()
        if not folder.is_dir()
    }


def _named(id_: str, path: str) -> Tree:
    """The table of a model given on the command line."""
    return {"id": id_, "path": path if path.startswith("~") else str(Path(path).absolute())}


def _described(model: object) -> object:
    """A model's table, and what its folder adds."""
    path = model.get("path") if _is_tree(model) else None
    if not _is_tree(model) or not isinstance(path, str):
        return model
    try:
        folder = _folder(path)
    except RuntimeError:  # no home folder to start from: checking the path says so
        return model
    found = traits(folder)
    if "family" not in model and not found:
        why = "cannot be read as the index of a model" if folder.is_dir() else "is not there"
        raise ConfigError(
            f"[[model]] {model.get('id')}: {folder / INDEX} {why}; "
            "limner opens folders in the layout of diffusers"
        )
    # To another family than the folder's own, the keys would say something else.
    return found | model if model.get("family") in (None, found.get("family")) else model


# -- Files and variables --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """Where each value comes from: the files, and layers that beat them."""

    path: Path
    tree: Tree
    origins: Mapping[str, list[Path]]  # the file of each list entry
    layers: Mapping[str, Mapping[str, Tree]]

    def merged(self) -> Tree:
        """One tree of all of them."""
        bare: Tree = {"server": {}}  # so that its defaults are checked as if they were written
        tree = bare | self.tree
        for layer in self.layers.values():
            for table, keys in layer.items():
                below = tree.get(table, {})
                if keys and _is_tree(below):
                    tree[table] = below | keys
        if "model" in tree:
            tree["model"] = [_described(model) for model in tree["model"]]
        return tree

    def explain(self, mistake: ErrorDetails) -> str:
        """A line for people: where, which key, what is wrong."""
        loc = mistake["loc"]
        table, key = (str(loc[0]) if loc else ""), (loc[1] if len(loc) > 1 else "")
        where = str(self.path)
        for name, layer in self.layers.items():
            if key in layer.get(table, {}):
                where = name
        if isinstance(key, int):
            where = str(self.origins[table][key])
        return f"{where}: {explain(mistake, self.tree)}"


def _read(path: Path) -> tuple[Tree, dict[str, list[Path]]]:
    """A file and those it includes, as one tree, and the file of each list entry."""
    tree = _toml(path)
    origins = {table: [path for _ in tree.get(table, ())] for table in LISTS}
    for name in tree.get("include", ()):
        other = path.parent / str(name)
        more = _toml(other)
        for table, entries in more.items():
            if table not in LISTS:
                allowed = ", ".join(f"[[{name}]]" for name in LISTS)
                raise ConfigError(f"{other}: {table}: an included file holds only {allowed}")
            tree[table] = [*tree.get(table, ()), *entries]
            origins[table] += [other for _ in entries]
    return tree, origins


def _toml(path: Path) -> Tree:
    """One file, its lists known to be lists, its relative paths anchored at its folder."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    for table in LISTS:
        if not isinstance(tree.get(table, []), list):
            raise ConfigError(f"{path}: {table}: must be written [[{table}]]")
    if not isinstance(tree.get("include", []), list):
        raise ConfigError(f"{path}: include: must be a list of paths")
    _anchor(tree.get("server"), "data_dir", path.parent)
    for model in tree.get("model", ()):
        _anchor(model, "path", path.parent)
    for lora in tree.get("lora", ()):
        _anchor(lora, "path", path.parent)
    return tree


def _anchor(table: object, key: str, folder: Path) -> None:
    if not _is_tree(table):
        return
    given = table.get(key)
    if isinstance(given, str) and given and not given.startswith(("~", DEMO)):
        table[key] = str((folder / given).absolute())


def _is_tree(value: object) -> TypeGuard[Tree]:
    return isinstance(value, dict)


def _environment() -> Mapping[str, Tree]:
    """The variables by table and key.

    Names without two underscores are left alone: container platforms make up ones like
    `LIMNER_PORT` for a service called limner.
    """
    tables = Environment.model_fields
    for name in os.environ:
        table, mark, _ = name.removeprefix(PREFIX).partition("__")
        if name.startswith(PREFIX) and mark and table.lower() not in tables:
            allowed = ", ".join(f"{PREFIX}{known.upper()}__…" for known in tables)
            raise ConfigError(f"environment: {name}: unknown; there are {allowed}")
    try:
        given: dict[str, Tree] = Environment().model_dump()
    except (SettingsError, ValidationError):
        raise ConfigError(
            f"environment: a table as a whole, like {PREFIX}SERVER, must be JSON"
        ) from None
    return {
        table: {key: _listed(table, key, value) for key, value in keys.items()}
        for table, keys in given.items()
    }


def _listed(table: str, key: str, value: object) -> object:
    """A list written as JSON, decoded; anything else as it is."""
    field = TABLES[(table,)].model_fields.get(key)
    if not field or get_origin(field.annotation) is not tuple or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ConfigError(
            f"environment: [{table}] {key}: must be a list as JSON, not {value!r:.60}"
        ) from None
