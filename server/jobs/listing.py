"""What is offered, as one document that the clients of every service read: `GET /models`.

Rows under `data` have the keys of OpenAI, Venice and AIMO side by side, and `limner`, what each
model really takes; `models` are Depicta's. Pure: a catalog in, a document out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from server.jobs.catalog import Catalog, Offering, Quality
from server.sizes import TIERS, Size

Document: TypeAlias = dict[str, Any]

OWNER = "limner"
FREE: Mapping[str, float] = {"usd": 0.0, "diem": 0.0}
NOTHING = "0.000000"  # EUR
# The shapes that hosted services let their clients choose from.
RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "4:5", "5:4", "16:9", "9:16", "21:9")

QUALITIES: tuple[Quality, ...] = ("low", "medium", "high")


def listed(catalog: Catalog, created: int, *, prompt_chars: int, kind: str = "all") -> Document:
    """The whole document.

    Args:
        created: unix seconds, said of every model: since when it is offered.
        prompt_chars: the server's limit, for models without one of their own.
        kind: one of Venice's types; "all" is every model once.
    """
    found = of_kind(catalog, kind)
    return {
        "object": "list",
        "type": kind,
        "data": [row(catalog, each, created, prompt_chars, kind) for each in found],
        "models": [depicta(each) for each in catalog.offerings],
    }


def of_kind(catalog: Catalog, kind: str) -> list[Offering]:
    """The models of one of Venice's types."""
    return [each for each in catalog.offerings if kind in ("all", *kinds(each))]


def traits(catalog: Catalog, kind: str) -> dict[str, str]:
    """Models of a type by what they are known for: `default` is the first, `fastest` takes the
    fewest steps when nothing is asked, `highest_quality` paints the largest pictures by itself, and
    among equals takes the most steps for them."""
    offered = of_kind(catalog, kind)
    if not offered:
        return {}

    def quality(offering: Offering) -> tuple[int, int]:
        return max(size.area for size in offering.sizing.native), offering.quality["high"]

    return {
        "default": offered[0].id,
        "fastest": min(offered, key=lambda each: each.steps).id,
        "highest_quality": max(offered, key=quality).id,
    }


def mapping(catalog: Catalog, kind: str) -> dict[str, str]:
    """What models of a type are also called, and their ids."""
    return {alias: each.id for each in of_kind(catalog, kind) for alias in each.aliases}


def row(
    catalog: Catalog, offering: Offering, created: int, prompt_chars: int, kind: str = "all"
) -> Document:
    """One model, for OpenAI, Venice and AIMO at once."""
    kind = kinds(offering)[0] if kind == "all" else kind
    known = [name for name, model in traits(catalog, kind).items() if model == offering.id]
    inputs = ["text", "image"] if edits(offering) else ["text"]
    price = {"prompt": "0", "completion": "0", "image": "0"}
    return {
        "id": offering.id,
        "object": "model",
        "created": created,
        "owned_by": OWNER,
        "type": kind,
        "model_spec": spec(offering, kind, prompt_chars) | {"traits": known},
        "name": offering.id,
        "display_name": offering.id,
        "providers": [{"id": OWNER, "name": OWNER, "pricing": price}],
        "context_length": offering.prompt_chars or prompt_chars,
        "architecture": {"input_modalities": inputs, "output_modalities": ["image"]},
        "limner": abilities(offering, prompt_chars),
    }


def abilities(offering: Offering, prompt_chars: int) -> Document:
    """What a model takes and how it is asked when nothing is said; ranges include their ends."""
    return {
        "family": offering.family,
        "aliases": list(offering.aliases),
        "tasks": list(offering.tasks),
        "instructs": offering.instructs,
        "max_inputs": offering.max_inputs if edits(offering) else 0,
        "sizes": [str(size) for size in offering.sizing.native],
        "default_size": str(offering.sizing.default),
        "multiple": offering.sizing.multiple,
        "max_pixels": offering.sizing.max_pixels,
        "steps": offering.steps,
        "steps_range": list(offering.steps_range),
        "quality": dict(offering.quality),
        "guidance": offering.guidance,
        "guidance_range": list(offering.guidance_range),
        "strength": offering.strength,
        "negative_prompt": offering.negative_prompt,
        "prompt_chars": offering.prompt_chars or prompt_chars,
        "loras": list(offering.loras),
    }


def edits(offering: Offering) -> bool:
    """Whether it starts from images."""
    return bool({"edit", "inpaint"} & {*offering.tasks})


def kinds(offering: Offering) -> Sequence[str]:
    """The types that Venice would list it under, the first being what it is above all."""
    found = ["image"] if "generate" in offering.tasks else []
    return [*found, "inpaint"] if edits(offering) else found


def spec(offering: Offering, kind: str, prompt_chars: int) -> Document:
    """Venice's description of a model, as an image model or as one that edits."""
    limit = offering.prompt_chars or prompt_chars
    common: Document = {
        "promptCharacterLimit": limit,
        "aspectRatios": list(RATIOS),
        "resolutions": list(TIERS),
        "defaultResolution": "1K",
        "qualities": list(QUALITIES),
        "defaultQuality": "medium",
    }
    if kind == "inpaint":
        pricing: Document = {"inpaint": FREE}
        constraints = common | {
            "aspectRatios": ["auto", *RATIOS],
            "combineImages": offering.max_inputs > 1,
            "maxInputImages": offering.max_inputs,
        }
    else:
        pricing = {"generation": FREE, "upscale": {"2x": FREE, "4x": FREE}}
        constraints = common | {
            "steps": {"default": offering.steps, "max": offering.steps_range[1]},
            "widthHeightDivisor": offering.sizing.multiple,
            "defaultAspectRatio": ratio(offering.sizing.default),
        }
    tiers = dict.fromkeys(TIERS, FREE)
    grades = {tier: dict.fromkeys(QUALITIES, FREE) for tier in TIERS}
    return {
        "name": offering.id,
        "privacy": "private",
        "offline": not offering.there,
        "pricing": pricing | {"resolutions": tiers, "quality": grades},
        "constraints": constraints,
        "supportsWebSearch": False,
        "supportsStyleReferences": False,
        "supportsOptimizePromptThinking": False,
    }


def ratio(size: Size) -> str:
    """The nearest of the shapes that services name."""
    return min(RATIOS, key=lambda name: abs(_aspect(name) / size.aspect - 1))


def _aspect(name: str) -> float:
    width, _, height = name.partition(":")
    return int(width) / int(height)


def depicta(offering: Offering) -> Document:
    """One model as Depicta's clients read it."""
    return {
        "id": offering.id,
        "name": offering.id,
        "aliases": list(offering.aliases),
        "can_generate": "generate" in offering.tasks,
        "can_edit": edits(offering),
        "supports_multiturn": edits(offering),
        "max_combine_inputs": offering.max_inputs if edits(offering) else 0,
        "image_sizes": list(TIERS),
        "approximate_cost_eur": NOTHING,
    }
