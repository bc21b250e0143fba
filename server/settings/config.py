"""Reading a configuration: one TOML file, then `LIMNER_*` variables, then flags.

The only module that reads the environment. Every mistake becomes one `ConfigError`. Knows nothing
of requests; what the tables mean is in `tables`.
"""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from server.library.snapshots import HF
from server.settings.kinds import DEMO
from server.settings.mistakes import LISTS, TABLES, ConfigError, explain, is_sequel
from server.settings.stock import add_found, described
from server.settings.tables import Config

__all__ = ["Config", "ConfigError", "load", "shipped"]

PREFIX = "LIMNER_"
WHOLE = ("~", DEMO, HF)  # a path that starts so is not relative to anything
Tree: TypeAlias = dict[str, Any]


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
    model_dirs: Sequence[Path] = (),
) -> Config:
    """Read a configuration; `path` None is the shipped one.

    `overrides` are flags as `{"server": {"port": 80}}`; a None in them is a flag not given.
    `models` are ids and paths of models to go before those of the file, or to be the only ones;
    `model_dirs` are trees of further ones, beside those that the file names.

    Raises:
        ConfigError: with all that is wrong, one line each.
    """
    path = path or shipped("bare.toml" if models or model_dirs else "demo.toml")
    flags = {
        table: {key: value for key, value in keys.items() if value is not None}
        for table, keys in (overrides or {}).items()
    }
    tree, origins = _read(path)
    named = [_named(*each) for each in models]
    if named:
        tree["model"] = [*named, *tree.get("model", ())]
        origins["model"] = [*(Path("command line") for _ in named), *origins["model"]]
    add_found(tree, origins, model_dirs)
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
    package = Path(__file__).parents[1]
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def _named(id_: str, path: str) -> Tree:
    """The table of a model given on the command line."""
    return {"id": id_, "path": path if path.startswith(WHOLE) else str(Path(path).absolute())}


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
            tree["model"] = [described(model) for model in tree["model"]]
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
        for key in ("path", "base", "preview", "enlarger"):
            _anchor(model, key, path.parent)
    _anchor_all(tree, "model_dirs", path.parent)
    for lora in tree.get("lora", ()):
        _anchor(lora, "path", path.parent)
    return tree


def _anchor(table: object, key: str, folder: Path) -> None:
    if not _is_tree(table):
        return
    given = table.get(key)
    if isinstance(given, str) and given:
        table[key] = _anchored(given, folder)


def _anchor_all(table: Tree, key: str, folder: Path) -> None:
    given = cast("list[object]", table.get(key, []))
    if not isinstance(table.get(key, []), list) or not all(isinstance(each, str) for each in given):
        raise ConfigError(f"{key}: must be a list of paths")
    if given:
        table[key] = [_anchored(str(each), folder) for each in given]


def _anchored(path: str, folder: Path) -> str:
    return path if path.startswith(WHOLE) else str((folder / path).absolute())


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
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    if not isinstance(value, str) or tuple not in map(get_origin, kinds):
        return value
    if any(value in get_args(kind) for kind in kinds if get_origin(kind) is Literal):
        return value  # a word that stands for a list
    try:
        return json.loads(value)
    except ValueError:
        shown = "" if key == "signing_keys" else f", not {value!r:.60}"  # those are secrets
        raise ConfigError(f"environment: [{table}] {key}: must be a list as JSON{shown}") from None
