"""What Venice's shapes mean: shapes in, `Draft`s out, and what of them will not act.

Knows neither routes nor answers.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from pydantic import BaseModel

from server.dialects.venice_shapes import (
    Cutout,
    Edit,
    Generate,
    Generations,
    MultiEdit,
    Upscale,
)
from server.edge import fields, web
from server.edge.front import Front
from server.errors import BadRequest, UnknownModel
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog, Quality
from server.jobs.enlargement import Cutting, Wish
from server.jobs.intake import Draft, Format, Notice
from server.sizes import MIN_SIDE, TIERS, InputLimits, Size

SEEDS_BELOW = 10**9  # the largest seed that may be asked for is 999999999
MOST_VARIANTS = 4
SIDE = 1024  # px; of an image of which only the other side is given
UPSCALED = 16_777_216  # px; the most that an enlarged picture has
INPUTS = InputLimits(min_side=64, min_pixels=65_536, max_pixels=33_177_600)
EDITOR, DEFAULT = "firered-image-edit", "default"  # the models that Venice takes when none is named
# Which file an answer is when nothing is asked: large pictures would be large PNGs.
FORMATS: Mapping[str | None, Format] = {None: "png", "1K": "png", "2K": "jpeg", "4K": "jpeg"}

# What comes later, and what happens until then.
NOT_YET = {
    "safe_mode": "images are not judged yet",
    "enhance_prompt": "the prompt is used as it is",
    "enable_web_search": "no web search is made",
}
# What enlarging would do with a model that paints.
NOT_PAINTED = ("creativity", "enhance", "enhanceCreativity", "enhancePrompt", "replication")
QUALITIES: Mapping[str | None, Quality | None] = {
    "low": "low", "medium": "medium", "high": "high", "standard": "medium", "hd": "high",
}  # fmt: skip

Task: TypeAlias = Literal["generate", "edit"]


def chosen(catalog: Catalog, named: str | None, default: str, task: Task) -> str:
    """The model that is named, or else that which Venice takes, or else the first that can."""
    if named is not None:
        return named
    try:
        return catalog.find(default).id
    except UnknownModel:
        able = (each.id for each in catalog.offerings if task in each.tasks)
        return next(able, catalog.offerings[0].id)


async def picture(source: str | bytes, param: str, uploads: Uploads) -> bytes:
    """The file that a field stands for: a form's own, base64, a data URL or an address.

    Raises:
        Refusal: with `param` named.
    """
    if isinstance(source, bytes):
        return uploads.checked(source, param)
    return await uploads.any(source, param)


# -- Edits ----------------------------------------------------------------------------------------


async def of_edit(shape: Edit, front: Front, model: str) -> Draft:
    """What is meant by an edit of one image."""
    return Draft(
        dialect="venice",
        task="edit",
        model=model,
        prompt=shape.prompt,
        aspect_ratio=_ratio(shape.aspect_ratio),
        resolution=shape.resolution,
        quality=shape.quality,
        images=(await picture(shape.image, "image", front.uploads),),
        input_limits=INPUTS,
        output_format=shape.output_format or FORMATS[shape.resolution],
        user=shape.anon_user_id,
        ignored=(*not_yet(shape), *_second_name(shape)),
    )


def _second_name(shape: Edit) -> Iterator[Notice]:
    if shape.modelId is not None and shape.model is not None and shape.modelId != shape.model:
        yield Notice("modelId", "not used: model was given")


async def of_multi_edit(shape: MultiEdit, front: Front, model: str) -> Draft:
    """What is meant by an edit of several images; a tier that there is not is dropped."""
    asked = (shape.resolution or "").upper()
    tier = asked if asked in TIERS else None
    ignored = [*not_yet(shape)]
    if shape.resolution and tier is None:
        allowed = ", ".join(TIERS)
        ignored.append(Notice("resolution", f"not used: there are {allowed}"))
    files = [
        await picture(source, f"images[{i}]", front.uploads)
        for i, source in enumerate(shape.images)
    ]
    return Draft(
        dialect="venice",
        task="edit",
        model=model,
        prompt=shape.prompt,
        aspect_ratio=_ratio(shape.aspect_ratio),
        resolution=tier,
        quality=shape.quality,
        images=tuple(files),
        input_limits=INPUTS,
        output_format=shape.output_format or FORMATS[tier],
        ignored=tuple(ignored),
    )


def _ratio(text: str | None) -> str | None:
    return None if text == "auto" else text


# -- Pictures from nothing ------------------------------------------------------------------------


def of_generate(shape: Generate, catalog: Catalog) -> Draft:
    """What is meant by a native request.

    Raises:
        BadRequest: fields that contradict each other, or ask for what nothing here has.
    """
    _expect_possible(shape, catalog)
    width, height = _sides(shape)
    clamped = [*_clamped("width", shape.width), *_clamped("height", shape.height)]
    return Draft(
        dialect="venice",
        task="generate",
        model=shape.model,
        prompt=shape.prompt,
        negative_prompt=shape.negative_prompt or "",
        n=shape.variants or 1,
        width=width,
        height=height,
        aspect_ratio=shape.aspect_ratio,
        resolution=shape.resolution,
        seed=None if shape.seed is None else generator_seed(shape.seed),
        seeds_below=SEEDS_BELOW,
        steps=shape.steps,
        guidance=shape.cfg_scale,
        quality=shape.quality,
        style_preset=shape.style_preset,
        lora_strength=shape.lora_strength,
        output_format=shape.format or "webp",
        embed_metadata=bool(shape.embed_exif_metadata),
        user=shape.anon_user_id,
        ignored=(*not_yet(shape), *clamped),
    )


def _expect_possible(shape: Generate, catalog: Catalog) -> None:
    if shape.return_binary and (shape.variants or 1) > 1:
        raise BadRequest("variants must be 1 with return_binary", param="variants")
    if shape.style_references:
        raise BadRequest(
            "style_references: no model here takes any (supportsStyleReferences is false)",
            param="style_references",
        )
    names = [style.name for style in catalog.styles]
    if shape.style_preset is not None and shape.style_preset not in names:
        allowed = ", ".join(names) or "none"
        raise BadRequest(
            f"there is no style_preset {shape.style_preset!r:.80}; there are: {allowed:.1500}",
            param="style_preset",
        )


def _sides(shape: Generate) -> tuple[int | None, int | None]:
    """Both sides; Venice's default for the one that is missing, unless a shape is asked for."""
    width, height = (side and max(side, MIN_SIDE) for side in (shape.width, shape.height))
    if shape.aspect_ratio is None and (width or height):
        return width or SIDE, height or SIDE
    return width, height


def _clamped(param: str, side: int | None) -> Iterator[Notice]:
    if side is not None and side < MIN_SIDE:
        yield Notice(param, f"asked for {side}, used {MIN_SIDE}: pictures have no shorter sides")


def generator_seed(seed: int) -> int:
    """The seed to paint from. -1 is any; other negative ones stand for a number that is always the
    same, from which all variants can be counted up."""
    if seed >= -1:
        return seed
    digest = hashlib.sha256(f"venice seed {seed}".encode()).digest()
    return int.from_bytes(digest[:8]) % (SEEDS_BELOW - MOST_VARIANTS + 1)


def of_generations(shape: Generations, catalog: Catalog) -> Draft:
    """What is meant by a request in OpenAI's words; an unknown model stands for the default."""
    model, ignored = chosen(catalog, None, DEFAULT, "generate"), [*_only_said(shape)]
    if shape.model is not None:
        try:
            model = catalog.find(shape.model).id
        except UnknownModel:
            ignored.append(Notice("model", f"there is no such model; used {model}"))
    size = Size.parse("1024x1024" if shape.size in (None, "auto") else shape.size)
    kind = shape.output_format or "png"
    asked = 100 if shape.output_compression is None else shape.output_compression
    if kind == "png" and asked != 100:
        ignored.append(Notice("output_compression", "not used: PNG loses nothing"))
    return Draft(
        dialect="venice",
        task="generate",
        model=model,
        prompt=shape.prompt,
        width=size.width,
        height=size.height,
        seeds_below=SEEDS_BELOW,
        quality=QUALITIES.get(shape.quality),
        output_format=kind,
        output_quality=None if kind == "png" else max(1, asked),
        user=shape.user,
        ignored=tuple(ignored),
    )


def _only_said(shape: Generations) -> Iterator[Notice]:
    if shape.background == "transparent":
        yield Notice("background", "not used: no model here paints transparency")
    if shape.style is not None:
        yield Notice("style", "not used: no model here knows it")
    if shape.moderation == "auto":
        yield Notice("moderation", f"not available yet: {NOT_YET['safe_mode']}")


# -- Without painting -----------------------------------------------------------------------------


async def of_upscale(shape: Upscale, front: Front) -> Wish:
    """What is meant by a wish for a larger picture; base64 only, no address."""
    match shape.image:
        case bytes():
            data = front.uploads.checked(shape.image, "image")
        case text:
            data = await front.uploads.base64(text, "image")
    return Wish(
        dialect="venice",
        image=data,
        scale=shape.scale or 2.0,
        max_pixels=UPSCALED,
        ignored=tuple(_not_painted(shape)),
    )


def _not_painted(shape: Upscale) -> Iterator[Notice]:
    for name in NOT_PAINTED:
        if getattr(shape, name) not in (None, False, "false"):
            yield Notice(name, "not used: enlarged by Lanczos, which invents nothing")
    yield from web.unknown(fields.unknown_keys(shape))


async def of_cutout(shape: Cutout, uploads: Uploads) -> Cutting:
    """What is meant by a wish for an image without its background.

    Raises:
        Refusal: not exactly one is given, or it cannot be got.
    """
    match shape.image, shape.image_url:
        case bytes() as file, None:
            data = uploads.checked(file, "image")
        case str() as text, None:
            data = await uploads.base64(text, "image")
        case None, str() as url:
            data = await uploads.url(url, "image_url")
        case _:
            raise BadRequest("exactly one of image and image_url is required", param="image")
    return Cutting(dialect="venice", image=data)


def not_yet(shape: BaseModel) -> Iterator[Notice]:
    """What was asked for outright and is not there; a default asks for nothing."""
    for name, meanwhile in NOT_YET.items():
        if getattr(shape, name, None):
            yield Notice(name, f"not available yet: {meanwhile}")
