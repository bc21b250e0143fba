"""The models of a configuration and the files behind them: what is there, and what it tells.

Between the text of a configuration and what a worker is given. Opens nothing but headers and small
JSON files.
"""

import importlib.resources
import logging
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import msgspec

from models import headers, manifest
from models.contract import LoraSpec, ModelSpec, Tuning, WorkerSpec
from server.library import snapshots
from server.library.single import recognised
from server.library.snapshots import HF, Repository
from server.library.traits import INDEX, of_file, traits
from server.library.trees import WEIGHTS, checkpoints, name_of
from server.settings.kinds import DEMO
from server.settings.mistakes import ConfigError
from server.settings.offers import ModelTable
from server.settings.tables import Config

log = logging.getLogger(__name__)

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
                manifests=_manifests(config, model),
            )
            for model in config.model
            if model.id not in absent
        ),
    )


def model_spec(model: ModelTable, preload: bool = True) -> ModelSpec:
    """What a worker is told of a model; it warms up on its native sizes, from the first."""
    first, *others = model.native
    return ModelSpec(
        id=model.id,
        family=model.family,
        path=str(place_of(model.path)) if model.path else "",
        dtype=model.dtype,
        scheduler=model.scheduler,
        base=str(place_of(model.base)) if model.base else "",
        preview=str(place_of(model.preview)) if model.preview else "",
        enlarger=str(enlarger_of(model.enlarger)) if model.enlarger else "",
        width=first.width,
        height=first.height,
        buckets=tuple((size.width, size.height) for size in others),
        max_batch=model.max_batch,
        offload=model.offload,
        tuning=Tuning(
            compile=model.compile,
            graphs=model.graphs,
            fp8=model.fp8,
            step_cache=model.step_cache,
            step_forecast=model.step_forecast,
        ),
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


def enlarger_of(path: str) -> Path:
    """The file of an enlarger; of one that ships with limner, that in its folder."""
    place = place_of(path)
    return place / "model.safetensors" if path.startswith(DEMO) else place


def places(model: ModelTable) -> tuple[Path, ...]:
    """All that a model is made of: its folder or file, its base, what makes its previews, and what
    enlarges its pictures."""
    paths = (model.path, model.base, model.preview)
    enlarger = (enlarger_of(model.enlarger),) if model.enlarger else ()
    return (*(place_of(path) for path in paths if path), *enlarger)


def _manifests(config: Config, model: ModelTable) -> tuple[tuple[str, str], ...]:
    """The checkpoints that a model is made of, and the files that say what their weights are to
    be, where there are such."""
    known = {place: manifest.place(config.server.data_dir, place) for place in places(model)}
    return tuple((str(place), str(note)) for place, note in known.items() if note.is_file())


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
    if model.enlarger and not enlarger_of(model.enlarger).is_file():
        return f'enlarger "{model.enlarger}" leads to {enlarger_of(model.enlarger)}: no such file'
    if place.is_file():
        if model.base and place_of(model.base).is_dir():
            return ""
        lacks = f'path "{model.path}" is a single file, which lacks configurations and tokenizers'
        if not model.base:
            return f"{lacks}; base must name the folder that has them"
        whole = (known := recognised(place)) is not None and known.whole
        return f"{lacks}; {_absence('base', model.base, place_of(model.base), bare=whole)}"
    if model.path.startswith(HF) and place.is_dir() and not _has_weights(place):
        name = model.path.removeprefix(HF)
        return f'path "{model.path}" is here without its weights: `limner pull {name}` fetches them'
    there = place.is_dir() and not _is_unfetched(model.path, place)
    return "" if there else _absence("path", model.path, place)


def _has_weights(folder: Path) -> bool:
    return next(headers.below(folder, WEIGHTS), None) is not None


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
        ConfigError: there is no model at all then.
    """
    roots = [_root(root) for root in (*tree.get("model_dirs", ()), *more)]
    if not roots:
        return
    listed = tree.setdefault("model", [])
    places = [_place_or_none(table) for table in listed]
    known = {place.resolve() for place in places if place}
    taken = {str(table.get("id")) for table in listed if _is_tree(table)}
    taken |= {str(name).lower() for table in tree.get("alias", ()) for name in _names(table)}
    for root in roots:
        if not root.is_dir():
            log.warning("model_dirs: there is no folder %s", root)
        for found in checkpoints(root):
            if found.resolve() not in known:
                known.add(found.resolve())
                taken.add(name := name_of(found, taken))
                listed.append({"id": name, "path": str(found)})
                origins["model"].append(root)
    if not listed:
        raise ConfigError(f"model_dirs: no checkpoint was found in {', '.join(map(str, roots))}")


def _root(text: object) -> Path:
    try:
        return Path(str(text)).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(f"model_dirs: {text} starts at a home folder that is not known") from None


def _names(alias: object) -> Sequence[object]:
    return alias.get("names", ()) if _is_tree(alias) else ()


def _place_or_none(table: object) -> Path | None:
    """What the path of a table leads to; None where checking the path will say what is wrong."""
    if not _has_path(table):
        return None
    try:
        place = place_of(table["path"])
        place.exists()
    except (OSError, RuntimeError, ValueError):  # no home, no repository, no name for a file
        return None
    return place


def _has_path(table: object) -> TypeGuard[Tree]:
    return _is_tree(table) and isinstance(table.get("path"), str)


def described(model: object) -> object:
    """A model's table, and what its files add."""
    place = _place_or_none(model)
    if place is None or not _has_path(model):
        return model
    found = _of_file(model, place) if place.is_file() else traits(place)
    if "family" not in model and not found and _is_unfetched(model["path"], place):
        return UNKNOWN | {
            key: value
            for key, value in model.items()
            if key in ("id", "path") or key not in ModelTable.model_fields  # which is an error
        }
    if "family" not in model and not found:
        raise ConfigError(f"[[model]] {model.get('id')}: {_unknown(place)}")
    # To another family than the files' own, the keys would say something else.
    return found | model if model.get("family") in (None, found.get("family")) else model


def _is_unfetched(path: str, place: Path) -> bool:
    """Whether it names a repository that is not here whole."""
    return path.startswith(HF) and not (place / INDEX).is_file()


def _of_file(model: Tree, file: Path) -> Tree:
    """What a single file adds: of its base too, which is a public checkpoint if none is named."""
    known = recognised(file)
    base = str(model.get("base") or (f"{HF}{known.base}" if known else ""))
    folder = _place_or_none({"path": base}) if base else None
    if known is None:  # whoever names its base knows what it is
        return traits(folder) if folder else {}
    return {"base": base, **of_file(file, folder or Path(base))}


def _unknown(place: Path) -> str:
    """Why no family is known."""
    if place.is_file() and place.suffix.lower() != WEIGHTS:
        return f"{place} is not opened: it is no {WEIGHTS} file"
    if place.is_file():
        return f"{place} is no checkpoint that limner knows; say its family and its base"
    if place.suffix.lower() == WEIGHTS:
        return f"{place} is not there"
    index = place / INDEX
    why = "cannot be read as the index of a model" if place.is_dir() else "is not there"
    return f"{index} {why}; limner opens folders in the layout of diffusers, and single files"


def _is_tree(value: object) -> TypeGuard[Tree]:
    return isinstance(value, dict)
