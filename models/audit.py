"""From a checkpoint on disk to a pipeline that is what it claims to be.

diffusers loads broken folders in silence: a missing tensor stays unallocated or random, a missing
tokenizer becomes one of two words. Here the folder is looked at before anything is imported, each
model is loaded by itself so that its missing tensors are known, and the whole is checked once more.
"""

import importlib
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from models import headers
from models.canvas import Unloadable
from models.single import SingleFile

log = logging.getLogger(__name__)

PICKLES = (".ckpt", ".pt", ".pth", ".pkl", ".bin")
LIBRARIES = ("diffusers", "transformers")


def load(
    path: Path,
    kinds: Collection[str],
    dtype: torch.dtype,
    optional: Collection[str] = (),
    base: Path | None = None,
) -> diffusers.DiffusionPipeline:
    """Load a checkpoint whose pipeline class is one of `kinds`, to the CPU, and check it.

    Args:
        path: a diffusers folder, or a single file.
        optional: components that the folder may lack.
        base: the folder of what a single file lacks.

    Raises:
        Unloadable: the checkpoint is damaged, incomplete, not safe to open, or of another kind.
    """
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    folder = base or path
    index = read_index(folder)
    kind = index["_class_name"]
    if kind not in kinds:
        raise Unloadable(f"{folder} holds a {kind}; this family loads {', '.join(sorted(kinds))}")
    refuse_code(folder)
    if base is None:
        refuse_pickles(folder)
    try:
        file = SingleFile.open(path) if base else None
        parts = {
            name: load_part(file, folder, name, of, dtype)
            for name, of in components(index).items()
            if is_model(*of) and (name not in optional or is_there(file, folder, name))
        }
        pipe = assemble(index, folder, parts, optional)
        if file:
            file.settle(pipe)
    except (Unloadable, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # libraries raise a dozen classes for a damaged checkpoint
        raise Unloadable(f"{path}: {type(error).__name__}: {error}") from error
    check(pipe, path, folder)
    return pipe


def is_there(file: SingleFile | None, folder: Path, name: str) -> bool:
    """Whether an optional part has its weights; without a single file its folder must hold them."""
    if file is None:
        return (folder / name).is_dir()
    held = file.has(folder, name, components(read_index(folder))[name][1])
    return held or any((folder / name).glob("*.safetensors"))


def is_absent(index: Mapping[str, Any], folder: Path, name: str) -> bool:
    """Whether an optional component is to be left out: a model that was not loaded always."""
    of = components(index).get(name)
    return (of is not None and is_model(*of)) or not (folder / name).is_dir()


def load_part(
    file: SingleFile | None, folder: Path, name: str, of: tuple[str, str], dtype: torch.dtype
) -> torch.nn.Module:
    """One model, from the single file if that holds it."""
    if file and file.has(folder, name, of[1]):
        return file.part(name, *of, folder, dtype)
    return load_model(folder / name, *of, dtype)


def assemble(
    index: Mapping[str, Any],
    folder: Path,
    parts: Mapping[str, torch.nn.Module],
    optional: Collection[str],
) -> diffusers.DiffusionPipeline:
    """The pipeline of those parts; the smaller ones (tokenizers, schedule …) are the folder's."""
    absent = {
        name: None for name in optional if name not in parts and is_absent(index, folder, name)
    }
    unwanted = {name: None for name in ("safety_checker",) if name in index}
    return getattr(diffusers, index["_class_name"]).from_pretrained(
        folder, **parts, **unwanted, **absent, local_files_only=True, use_safetensors=True
    )


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's model_index.json.

    Raises:
        Unloadable: it is missing, not JSON, or names something outside the two libraries.
    """
    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        kind = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unloadable(f"{path} cannot be read as a pipeline's index: {error}") from error
    if not hasattr(diffusers, str(kind)):
        raise Unloadable(f"{path}: diffusers {diffusers.__version__} has no pipeline {kind}")
    for name, (library, class_name) in components(index).items():
        if library not in LIBRARIES or not hasattr(importlib.import_module(library), class_name):
            raise Unloadable(f"{path}: {name} is {library}.{class_name}, which is not allowed")
    return index


def components(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name → (library, class) of the parts that the folder holds; safety checkers left out."""
    return {
        name: (str(value[0]), str(value[1]))
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[0] and name != "safety_checker"
    }


def refuse_code(folder: Path) -> None:
    """Nothing in a model's folder may be run."""
    if found := next(headers.below(folder, ".py"), None):
        raise Unloadable(f"{found} is code; a model's folder may hold none")


def refuse_pickles(folder: Path) -> None:
    """A pickle is a program, and weights that are nothing else are not opened."""
    if not any(headers.below(folder, ".safetensors")):
        pickles = [path for ending in PICKLES for path in headers.below(folder, ending)]
        why = f"only pickled weights ({pickles[0].name})" if pickles else "no weights"
        raise Unloadable(f"{folder} has {why}; .safetensors files are needed")


def is_model(library: str, class_name: str) -> bool:
    """Whether the class has weights, unlike tokenizers, schedulers and processors."""
    cls = getattr(importlib.import_module(library), class_name)
    return isinstance(cls, type) and issubclass(cls, torch.nn.Module)


def load_model(path: Path, library: str, class_name: str, dtype: torch.dtype) -> torch.nn.Module:
    """One model with all its tensors.

    Raises:
        Unloadable: tensors are missing from its files.
    """
    cls: Any = getattr(importlib.import_module(library), class_name)
    variant = headers.best_variant(file.name for file in path.glob("*.safetensors"))
    model, report = cls.from_pretrained(
        path,
        dtype=dtype,
        variant=variant or None,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(report["missing_keys"]):
        raise Unloadable(f"{path} lacks {len(missing)} tensors, the first is {missing[0]}")
    if unexpected := sorted(report["unexpected_keys"]):
        log.warning("%s: %d tensors unused, first %s", path, len(unexpected), unexpected[0])
    return model.eval()


def check(pipe: diffusers.DiffusionPipeline, path: Path, folder: Path) -> None:
    """What can only be seen of the whole; `folder` holds the tokenizers.

    Raises:
        Unloadable: a tensor was never allocated, or a tokenizer does not fit its text encoder.
    """
    parts: dict[str, Any] = pipe.components
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            for tensor_name, tensor in part.named_parameters():
                if tensor.is_meta:
                    raise Unloadable(f"{path}: {name} lacks the tensor {tensor_name}")
        if name.startswith("tokenizer") and part is not None:
            encoder = parts.get(name.replace("tokenizer", "text_encoder"))
            check_vocabulary(folder / name, part, encoder)


def check_vocabulary(path: Path, tokenizer: Any, encoder: Any) -> None:
    """A tokenizer without its files has a handful of words, and would draw nonsense."""
    words = len(getattr(tokenizer, "tokenizer", tokenizer))  # a processor has one inside
    config = getattr(encoder, "config", None)
    rows = getattr(config and config.get_text_config(), "vocab_size", None)
    if rows is not None and not rows // 2 <= words <= rows:
        raise Unloadable(f"{path} has {words} words; its text encoder knows {rows}")
