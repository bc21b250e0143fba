"""What a checkpoint is, told by its files: its family, and how it is best asked.

Reads small JSON files and headers only, and so needs no torch. What it finds are defaults of a
`[[model]]` table: the keys that the table has itself go first.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from server.library.single import recognised

Keys: TypeAlias = dict[str, Any]  # of a [[model]] table
Tree: TypeAlias = Mapping[str, Any]

INDEX = "model_index.json"
ALL = ("generate", "edit", "inpaint")
EDITS = ("edit", "inpaint")
HASTY = re.compile(
    r"(?<![a-z])(turbo|lightning|hyper|lcm|schnell|distilled)(?![a-z])", re.IGNORECASE
)

HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # where camelCase has a word

# Sizes of about one megapixel that models are trained at.
MEGAPIXEL = (
    *("1024x1024", "1152x896", "896x1152", "1216x832", "832x1216"),
    *("1344x768", "768x1344"),
)
SMALL = ("512x512", "512x768", "768x512")
QWEN_SIZES = ("1328x1328", "1664x928", "928x1664", "1472x1104", "1104x1472")


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to go by.

    Attributes:
        kind: the pipeline class.
        folder: where configurations are, if it is there.
        index: its list of parts.
        name: the checkpoint's own. Distilled models are told by it: nothing in their files does.
    """

    kind: str
    folder: Path
    index: Tree
    name: str

    @property
    def hasty(self) -> bool:
        """Whether it was made for few steps."""
        return bool(HASTY.search(HUMP.sub(" ", self.name)))

    def config(self, part: str) -> Tree:
        """The configuration of a part; nothing where it cannot be read."""
        return _json(self.folder / part / "config.json")


def traits(folder: Path) -> Keys:
    """The keys that a folder amounts to; none where it is none of diffusers (loading tells why)."""
    snapshot = folder.parent.name == "snapshots"  # in a cache of downloads, with no name of its own
    return _of_folder(folder, folder.parents[1].name if snapshot else folder.name)


def of_file(path: Path, base: Path) -> Keys:
    """The keys that a single file amounts to, what it lacks coming from `base`.

    None for a file that is no checkpoint.
    """
    known = recognised(path)
    if known is None:
        return {}
    return _of_folder(base, path.stem) or _described(Told(known.pipeline, base, {}, path.stem))


def _of_folder(folder: Path, name: str) -> Keys:
    index = _json(folder / INDEX)
    kind = index.get("_class_name")
    return _described(Told(kind, folder, index, name)) if isinstance(kind, str) else {}


def _described(told: Told) -> Keys:
    for names, describe in KINDS.items():
        if re.fullmatch(names, told.kind):
            return describe(told)
    return _generic(told)


def _json(path: Path) -> Tree:
    try:
        tree: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("Tree", tree) if isinstance(tree, dict) else {}


def _generic(told: Told) -> Keys:
    keys: Keys = {"family": "generic", "native": ("1024x1024",), "multiple": 32, "guidance": 4.5}
    if "Inpaint" in told.kind:
        return keys | {"tasks": ("inpaint",)}
    return keys | {"tasks": ("edit",) if re.search("Edit|Img2Img", told.kind) else ("generate",)}


def _sd(told: Told) -> Keys:
    unet = told.config("unet")
    side = 768 if unet.get("sample_size") == 96 else 512
    long = side * 3 // 2
    keys: Keys = {
        "family": "sd",
        "native": (f"{side}x{side}", f"{side}x{long}", f"{long}x{side}"),
        "multiple": 8,
        "steps": 25,
        "guidance": 7.5,
        "guidance_range": (0.0, 50.0),
        "tasks": ALL,
        "max_batch": 8,
    }
    if "Pix2Pix" in told.kind:
        keys |= {"tasks": EDITS, "instructs": True}
    return _unet(keys, unet, told)


def _sdxl(told: Told) -> Keys:
    unet = told.config("unet")
    keys: Keys = {
        "family": "sdxl",
        "native": SMALL if unet.get("sample_size") == 64 else MEGAPIXEL,
        "multiple": 8,
        "steps": 30,
        "guidance": 6.0,
        "guidance_range": (0.0, 50.0),
        "tasks": ALL,
        "max_batch": 8,
    }
    return _unet(keys, unet, told)


def _unet(keys: Keys, unet: Tree, told: Told) -> Keys:
    """A UNet of nine channels only inpaints; a distilled one wants few steps and no guidance."""
    if unet.get("in_channels") == 9:
        keys |= {"tasks": ("inpaint",)}
    if told.hasty:
        keys |= {"steps": 4, "guidance": 1.0}
    return keys


def _sd3(told: Told) -> Keys:
    hasty: Keys = {"steps": 4, "guidance": 1.0} if told.hasty else {}
    return {
        "family": "sd3",
        "native": MEGAPIXEL,
        "multiple": 16,
        "steps": 28,
        "guidance": 4.5,
        "tasks": ALL,
    } | hasty


def _flux(told: Told) -> Keys:
    keys: Keys = {
        "family": "flux",
        "native": MEGAPIXEL,
        "multiple": 16,
        "steps": 28,
        "guidance": 3.5,
        "tasks": ALL,
        "negative_prompt": False,  # guidance is an input of the network
    }
    if not told.config("transformer").get("guidance_embeds", False):
        keys |= {"steps": 4, "guidance": 1.0, "negative_prompt": True}
    if "Fill" in told.kind:
        keys |= {"steps": 50, "guidance": 30.0, "guidance_range": (0.0, 100.0)}
        keys |= {"tasks": ("inpaint",), "negative_prompt": False}
    if "Kontext" in told.kind:
        keys |= {"guidance": 2.5, "instructs": True, "max_inputs": 4}
    return keys


def _flux2(told: Told) -> Keys:
    keys: Keys = {
        "family": "flux2",
        "native": MEGAPIXEL,
        "multiple": 16,
        "max_pixels": 2048 * 2048,
        "steps": 50,
        "guidance": 4.0,
        "tasks": ALL,
        "negative_prompt": False,
        "instructs": True,
        "max_inputs": 8,
        "max_aspect": 8.0,
    }
    if told.index.get("is_distilled"):
        keys |= {"steps": 4, "guidance": 1.0, "guidance_range": (1.0, 1.0)}
    return keys


def _qwen(told: Told) -> Keys:
    keys: Keys = {
        "family": "qwen-image",
        "native": QWEN_SIZES,
        "multiple": 16,
        "steps": 50,
        "guidance": 4.0,
        "tasks": ALL,
    }
    if "Edit" in told.kind:
        keys |= {"steps": 40, "tasks": EDITS, "instructs": True}
    if "EditPlus" in told.kind:
        keys |= {"max_inputs": 3}
    return keys


def _z(told: Told) -> Keys:
    hasty: Keys = {"steps": 9, "guidance": 1.0} if told.hasty else {}
    return {
        "family": "z-image",
        "native": MEGAPIXEL,
        "multiple": 16,
        "max_pixels": 2048 * 2048,
        "steps": 50,
        "guidance": 5.0,
        "tasks": ALL,
    } | hasty


# By the pipeline's class; what is none of these goes through the generic family.
KINDS: Mapping[str, Callable[[Told], Keys]] = {
    "StableDiffusion(Img2Img|Inpaint|InstructPix2Pix)?Pipeline": _sd,
    "StableDiffusionXL(Img2Img|Inpaint)?Pipeline": _sdxl,
    "StableDiffusion3(Img2Img|Inpaint)?Pipeline": _sd3,
    "Flux(Img2Img|Inpaint|Fill|Kontext|KontextInpaint)?Pipeline": _flux,
    "Flux2(Klein|KleinInpaint)?Pipeline": _flux2,
    "QwenImage(Img2Img|Inpaint|Edit|EditPlus)?Pipeline": _qwen,
    "ZImage(Img2Img|Inpaint)?Pipeline": _z,
}
