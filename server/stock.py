"""The models of a configuration and the files behind them: what is there, and what it tells.

Between the text of a configuration and what a worker is given. Opens nothing but headers and small
JSON files.
"""

import importlib.resources
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import msgspec

from models import manifest
from models.contract import LoraSpec, ModelSpec, WorkerSpec
from server import snapshots
from server.mistakes import ConfigError
from server.single import recognised
from server.snapshots import HF, Repository
from server.tables import DEMO, Config, ModelTable
from server.traits import INDEX, of_file, traits
from server.trees import checkpoints, name_of

Tree: TypeAlias = dict[str, Any]
Origins: TypeAlias = MutableMapping[str, list[Path]]  # the file that each entry of a list is from

# A repository that is not here says nothing of itself. Until it is, no worker hears of its model,
# and this only stands in for what a table must have.
UNKNOWN: Tree = {"family": "sdxl", "native": ("1024x1024",)}

# -- What a worker is told ------------------------------------------------------------------------


def worker_spec(config: Config) -> WorkerSpec:
    """What the (one) worker is told: of the models whose files are there.

    Raises:
        ConfigError: no model has its files.
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
                model_spec(model, config.loads_ahead(model)),
                loras=_loras(config, model.id),
                manifest=_manifest(config, model),
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
        path=str(place_of(model.path)) if model.path else "",
        dtype=model.dtype,
        scheduler=model.scheduler,
        base=str(place_of(model.base)) if model.base else "",
        preview=str(place_of(model.preview)) if model.preview else "",
        width=model.native[0].width,
        height=model.native[0].height,
        max_batch=model.max_batch,
        offload=model.offload,
        preload=preload,
        pinned=model.pinned,
        keep_seconds=model.keep_seconds,
    )


def checkpoint(model: ModelTable) -> Path:
    """What the path of a model leads to, whether it is there or not."""
    return place_of(model.path)


def place_of(path: str) -> Path:
    """What the path of a model leads to."""
    if path.startswith(HF):
        return snapshots.folder(Repository.parse(path))
    if path.startswith(DEMO):
        return Path(str(importlib.resources.files("models"))) / "demo" / path.removeprefix(DEMO)
    return Path(path).expanduser()


def _manifest(config: Config, model: ModelTable) -> str:
    """The file that says what a model's weights are to be; empty if there is none."""
    place = manifest.place(config.server.data_dir, checkpoint(model)) if model.path else None
    return str(place) if place and place.is_file() else ""


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
    """The models that cannot be loaded for want of files, and what to tell of each."""
    wants = {model.id: _want(model) for model in config.model if model.path}
    return {id_: f"[[model]] {id_}: {want}" for id_, want in wants.items() if want}


def _want(model: ModelTable) -> str:
    """What is not there of a model; nothing if all is."""
    place = place_of(model.path)
    if model.preview and not place_of(model.preview).is_dir():
        return _absence("preview", model.preview, place_of(model.preview))
    if place.is_file():
        if model.base and place_of(model.base).is_dir():
            return ""
        lacks = f'path "{model.path}" is a single file, which lacks configurations and tokenizers'
        whole = (known := recognised(place)) is not None and known.whole
        return f"{lacks}; {_absence('base', model.base, place_of(model.base or '.'), bare=whole)}"
    return "" if place.is_dir() else _absence("path", model.path, place)


def _absence(key: str, path: str, place: Path, *, bare: bool = False) -> str:
    """What to tell of a path that leads to nothing; `bare` if its weights are not needed."""
    if path.startswith(HF):
        name = ("--bare " if bare else "") + path.removeprefix(HF)
        return f'{key} "{path}" is not on this machine: `limner pull {name}` fetches it'
    return f'{key} "{path}" leads to {place}, which is not a folder'


# -- Tables before they are checked ---------------------------------------------------------------


def add_found(tree: Tree, origins: Origins, more: Sequence[Path]) -> None:
    """Tables for the checkpoints in the model folders that no table speaks of.

    Raises:
        ConfigError: a folder is not there, or none of them holds anything.
    """
    roots = [Path(root).expanduser().absolute() for root in (*tree.get("model_dirs", ()), *more)]
    if not roots:
        return
    listed = tree.setdefault("model", [])
    known = {place_of(table["path"]).resolve() for table in listed if _has_path(table)}
    taken = {str(table.get("id")) for table in listed if _is_tree(table)}
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"model_dirs: there is no folder {root}")
        for found in checkpoints(root):
            if found.resolve() not in known:
                known.add(found.resolve())
                taken.add(name := name_of(found, taken))
                listed.append({"id": name, "path": str(found)})
                origins["model"].append(root)
    if not listed:
        raise ConfigError(f"model_dirs: no checkpoint was found in {', '.join(map(str, roots))}")


def _has_path(table: object) -> TypeGuard[Tree]:
    return _is_tree(table) and isinstance(table.get("path"), str)


def described(model: object) -> object:
    """A model's table, and what its files add."""
    if not _has_path(model):
        return model
    try:
        place = place_of(model["path"])
        found = _of_file(model, place) if place.is_file() else traits(place)
    except (RuntimeError, ValueError):  # no home folder, no repository: checking the path says so
        return model
    if "family" not in model and not found and model["path"].startswith(HF) and not place.is_dir():
        return UNKNOWN | {key: model[key] for key in ("id", "path") if key in model}
    if "family" not in model and not found:
        raise ConfigError(f"[[model]] {model.get('id')}: {_unknown(place)}")
    # To another family than the files' own, the keys would say something else.
    return found | model if model.get("family") in (None, found.get("family")) else model


def _of_file(model: Tree, file: Path) -> Tree:
    """What a single file adds: of its base too, which is a public checkpoint if none is named."""
    known = recognised(file)
    base = model.get("base") or (f"{HF}{known.base}" if known else "")
    return {"base": base, **of_file(file, place_of(str(base)))} if known else {}


def _unknown(place: Path) -> str:
    """Why no family is known."""
    if place.is_file():
        return f"{place} is no checkpoint that limner knows; say its family and its base"
    index = place / INDEX
    why = "cannot be read as the index of a model" if place.is_dir() else "is not there"
    return f"{index} {why}; limner opens folders in the layout of diffusers, and single files"


def _is_tree(value: object) -> TypeGuard[Tree]:
    return isinstance(value, dict)
