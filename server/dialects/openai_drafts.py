"""From OpenAI's requests to `Draft`s: what each field means here, and what does not act.

Knows nothing of answers, of HTTP or of how images came.
"""

from collections.abc import Iterator, Mapping

from server.dialects.openai_shapes import Edit, EditJson, Generate, Options, Prompted, Variation
from server.edge import fields, web
from server.errors import BadRequest
from server.jobs.catalog import Catalog, Quality
from server.jobs.intake import Draft, Notice
from server.sizes import Size

# The words of all generations of OpenAI's models; None is the model's own default.
QUALITIES: Mapping[str, Quality | None] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "auto": None,
    "standard": None,
    "hd": "high",
    "xhigh": "high",
    "max": "high",
}
BEYOND = ("xhigh", "max")  # more than there is here
STYLES = ("vivid", "natural")  # OpenAI's own
# Synonyms that clients of other local servers send, the first that is there being used.
STEPS = ("steps", "num_inference_steps")
GUIDANCE = ("guidance", "guidance_scale", "true_cfg_scale")


def to_draft(
    shape: Options, catalog: Catalog, images: tuple[bytes, ...] = (), mask: bytes | None = None
) -> Draft:
    """What the client meant; `images` and `mask` are encoded files.

    Raises:
        BadRequest: a style that there is not.
    """
    size = Size.parse(shape.size) if shape.size and shape.size != "auto" else None
    prompted = shape if isinstance(shape, Prompted) else None
    edited = shape if isinstance(shape, Edit | Variation) else None
    style = shape.style if isinstance(shape, Generate) else None
    return Draft(
        dialect="openai",
        task="edit" if edited else "generate",
        model=model_of(shape, catalog, masked=mask is not None),
        prompt=prompted.prompt if prompted else "",
        negative_prompt=shape.negative_prompt or "",
        n=shape.n or 1,
        width=size.width if size else None,
        height=size.height if size else None,
        aspect_ratio=shape.aspect_ratio,
        resolution=shape.resolution,
        seed=None if shape.seed == -1 else shape.seed,
        steps=_first(shape, STEPS),
        guidance=_first(shape, GUIDANCE),
        strength=edited.strength if edited else None,
        quality=QUALITIES[shape.quality or "auto"],
        style=_style(style, catalog),
        style_preset=shape.style_preset,
        lora_strength=shape.lora_strength,
        tags=True,
        images=images,
        mask=mask,
        alpha_mask=True,
        own_mask=isinstance(shape, Edit) and not _called(shape, "gpt-image"),
        output_format=shape.output_format or "png",
        output_quality=_compression(shape),
        preview=bool(prompted and prompted.stream and prompted.partial_images),
        strict=bool(shape.strict),
        user=shape.safety_identifier or shape.user,
        called=_synonyms(shape),
        ignored=tuple(_ignored(shape, catalog)),
    )


def model_of(shape: Options, catalog: Catalog, *, masked: bool = False) -> str:
    """The model's name; where none was said, the first one that can do it."""
    if shape.model:
        return shape.model
    task = ("inpaint" if masked else "edit") if isinstance(shape, Edit | Variation) else "generate"
    able = [each.id for each in catalog.offerings if task in each.tasks]
    return (able or [catalog.offerings[0].id])[0]


def as_links(shape: Options) -> bool:
    """Whether pictures are answered as links: as asked, else as the model's name would have it."""
    if shape.response_format:
        return shape.response_format == "url"
    return _called(shape, "dall-e-")


def _called(shape: Options, start: str) -> bool:
    return (shape.model or "").strip().lower().startswith(start)


def _first(shape: Options, names: tuple[str, ...]) -> int | None:
    return next((getattr(shape, each) for each in _there(shape, names)), None)


def _synonyms(shape: Options) -> dict[str, str]:
    """By which of its names a field was sent, where that is not the name in `Draft`."""
    sent = {names[0]: _there(shape, names) for names in (STEPS, GUIDANCE)}
    return {name: there[0] for name, there in sent.items() if there and there[0] != name}


def _there(shape: Options, names: tuple[str, ...]) -> list[str]:
    return [each for each in names if getattr(shape, each) is not None]


def _compression(shape: Options) -> int | None:
    if shape.output_compression is None or (shape.output_format or "png") == "png":
        return None
    return max(1, shape.output_compression)


def _style(style: str | None, catalog: Catalog) -> str | None:
    if style is None or catalog.style(style):
        return style
    if style.lower() in STYLES:
        return None
    presets = ", ".join(each.name for each in catalog.styles)
    raise BadRequest(
        f"style: must be one of {', '.join(STYLES)}, or a preset: {presets}", param="style"
    )


# -- What does not act ----------------------------------------------------------------------------


def _ignored(shape: Options, catalog: Catalog) -> Iterator[Notice]:
    yield from _surplus(shape, STEPS)
    yield from _surplus(shape, GUIDANCE)
    if shape.quality in BEYOND:
        yield Notice("quality", f"asked for {shape.quality}, used high: there is nothing above it")
    if _compression(shape) is None and shape.output_compression not in (None, 100):
        yield Notice("output_compression", "not used: PNG is lossless")
    if shape.user and shape.safety_identifier and shape.user != shape.safety_identifier:
        yield Notice("user", "not used: safety_identifier was given")
    if isinstance(shape, Prompted):
        yield from _ignored_options(shape)
    if isinstance(shape, Generate) and shape.style and not catalog.style(shape.style):
        yield Notice("style", f"not used: there is no preset {shape.style.lower()}")
    if isinstance(shape, Edit) and shape.input_fidelity:
        yield Notice("input_fidelity", "not used: strength says how much is repainted")
    yield from web.unknown([*_unknown_keys(shape)])


def _surplus(shape: Options, names: tuple[str, ...]) -> Iterator[Notice]:
    used, *others = _there(shape, names) or [""]
    yield from (Notice(other, f"not used: {used} was given") for other in others)


def _ignored_options(shape: Prompted) -> Iterator[Notice]:
    if shape.background == "transparent":
        yield Notice("background", "not available: pictures are opaque")
    if shape.moderation == "auto":
        yield Notice("moderation", "not available yet: images are not judged")
    if shape.partial_images and not shape.stream:
        yield Notice("partial_images", "not used without stream")
    if shape.stream and shape.response_format == "url":
        yield Notice("response_format", "not used: events carry b64_json")


def _unknown_keys(shape: Options) -> Iterator[str]:
    yield from fields.unknown_keys(shape)
    if isinstance(shape, EditJson):
        for i, source in enumerate(shape.images):
            yield from (f"images[{i}].{key}" for key in fields.unknown_keys(source))
        if shape.mask:
            yield from (f"mask.{key}" for key in fields.unknown_keys(shape.mask))
