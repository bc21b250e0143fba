"""What pydantic says of a configuration, in words for the one who wrote it.

Knows the tables and their keys; nothing of where a value came from.
"""

from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import ErrorDetails

from server.settings.kinds import Table
from server.settings.offers import (
    AliasTable,
    LoraTable,
    ModelTable,
    QualityTable,
    StyleTable,
)
from server.settings.tables import (
    Config,
    LimitsTable,
    ServerTable,
    WorkerTable,
)

LISTS = ("model", "alias", "lora", "style")  # written [[model]], and named by their id or name
TABLES: Mapping[tuple[str, ...], type[Table]] = {
    (): Config,
    ("server",): ServerTable,
    ("worker",): WorkerTable,
    ("limits",): LimitsTable,
    ("model",): ModelTable,
    ("model", "quality"): QualityTable,
    ("alias",): AliasTable,
    ("lora",): LoraTable,
    ("style",): StyleTable,
}
WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be a table",
    "too_short": "must have at least one entry",
}


class ConfigError(Exception):
    """What is wrong with the configuration, for people: the file, the key and what is allowed."""


def explain(mistake: ErrorDetails, tree: Mapping[str, Any]) -> str:
    """The key as it stands in the file, and what is wrong: `[[model]] sketch: steps: must …`.

    `tree` is what was checked.
    """
    return _label(mistake["loc"], tree) + _problem(mistake)


def is_sequel(mistake: ErrorDetails) -> bool:
    """Whether this only follows from another: a list counts as empty when its items are wrong."""
    return mistake["type"] == "too_short" and bool(mistake["input"])


def _label(loc: tuple[int | str, ...], tree: Mapping[str, Any]) -> str:
    keys = [part for part in loc if isinstance(part, str)]
    table, inner = "".join(keys[:1]), ".".join(keys[1:])
    if table in LISTS:
        name = f" {_name(tree[table], loc[1])}" if len(loc) > 1 else ""
        return f"[[{table}]]{name}: " + (f"{inner}: " if inner else "")
    if (table,) in TABLES:
        return f"[{table}] " + (f"{inner}: " if inner else "")
    return f"{table}: " if table else ""


def _name(entries: Any, index: int | str) -> str:
    """What an entry of a list calls itself, or its number from 1."""
    entry: object = entries[index]
    fields: Mapping[str, object] = (
        cast(Mapping[str, object], entry) if isinstance(entry, dict) else {}
    )
    named = fields.get("id", fields.get("name"))
    return named if isinstance(named, str) else f"no. {int(index) + 1}"


def _problem(mistake: ErrorDetails) -> str:
    kind, loc, given = mistake["type"], mistake["loc"], repr(mistake["input"])[:60]
    if kind == "extra_forbidden":
        within = tuple(part for part in loc[:-1] if isinstance(part, str))
        return f"unknown key; the keys here are {', '.join(TABLES[within].model_fields)}"
    if kind == "missing":
        return "needs two values" if isinstance(loc[-1], int) else "is required"
    if kind == "value_error":
        return mistake["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return f"must match {mistake.get('ctx', {}).get('pattern')}, not {given}"
    words = WORDS.get(kind) or mistake["msg"].replace("Input should", "must")
    return f"{words}, not {given}"
