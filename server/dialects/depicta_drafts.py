"""Depicta's requests understood: a JSON body or a form becomes `Asked`, and that a `Draft`.

Knows nothing of answers.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import msgspec
from starlette.requests import Request

from server.dialects.depicta_shapes import COMBINED, Combine, Edit, Generate, Reference
from server.edge import fields, forms, web
from server.edge.front import Front
from server.errors import BadRequest
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog, Offering
from server.jobs.intake import Draft, Notice
from server.jobs.listing import edits
from server.sizes import STEP, TIERS, Size, size_of_area

Operation: TypeAlias = Literal["generate", "edit", "combine"]
Source: TypeAlias = tuple[str, str | bytes]  # the field's name; a URL, or the file


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `files` are those of a form; the field they stand in for is not in the shape."""

    operation: Operation
    shape: Generate
    files: tuple[bytes, ...] = ()

    @property
    def inputs(self) -> tuple[Source, ...]:
        """The images to start from."""
        match self.shape:
            case Edit(input_image_url=url):
                return (("input_image_url", url),)
            case Combine(input_image_urls=urls):
                return tuple((f"input_image_urls[{i}]", url) for i, url in enumerate(urls))
            case _ if self.operation == "edit":
                return (("image", self.files[0]),)
            case _:
                return tuple((f"images[{i}]", file) for i, file in enumerate(self.files))

    @property
    def sources(self) -> tuple[Source, ...]:
        """All images, in the order in which the model sees them."""
        references = self.shape.reference_images or ()
        named = tuple((f"reference_images[{i}].url", ref.url) for i, ref in enumerate(references))
        return self.inputs + named

    @property
    def prompt(self) -> str:
        """With what the references show, in their order."""
        said = [each.description.strip() for each in self.shape.reference_images or ()]
        return ", ".join([self.shape.prompt, *(text for text in said if text)])

    def theirs(self, param: str) -> str:
        """The client's name of a field of `Draft`."""
        named = [name for name, _ in self.sources]
        for position, name in enumerate(named):
            if param == f"images[{position}]":
                return name
        if param == "images":
            return named[0].partition("[")[0] if named else param
        return {"resolution": "image_size", "width": "image_size", "height": "image_size"}.get(
            param, param
        )

    def fingerprint(self) -> str:
        """The same for the same request, and for no other. Of unknown keys the names count, which
        are warned of, and not the values, which do not act and may nest too deep to be written."""
        digest = hashlib.sha256(self.operation.encode())
        names = dict.fromkeys(type(self.shape).model_fields, True)
        inside = {"reference_images": {"__all__": {*Reference.model_fields}}}
        written = self.shape.model_dump_json(exclude_none=True, include=names | inside)
        known = "\0".join((written, *_unknown(self.shape)))
        digest.update(hashlib.sha256(known.encode("utf-8", "surrogatepass")).digest())
        for file in self.files:
            digest.update(hashlib.sha256(file).digest())
        return digest.hexdigest()


# -- Reading --------------------------------------------------------------------------------------


async def read(request: Request, operation: Operation, wire: type[Generate], front: Front) -> Asked:
    """The body of a request.

    Raises:
        Refusal: it is none, or not this.
    """
    limit = front.limits.body_bytes
    if operation == "generate" or not forms.is_form(request):
        return Asked(operation, await web.read(request, wire, limit))
    form = await forms.read(request, limit)
    files = _files(form, operation, front.limits.upload_bytes)
    texts = {name: value for name, value in form.texts.items() if name != "reference_images"}
    shape = forms.Form(texts).shaped(Generate, _references(form))
    return Asked(operation, shape, files)


def _files(form: forms.Form, operation: Operation, limit: int) -> tuple[bytes, ...]:
    name = "image" if operation == "edit" else "images"
    found = form.files.get(name, [])
    low, high = (1, 1) if operation == "edit" else COMBINED
    if not low <= len(found) <= high:
        wanted = "one file" if high == 1 else f"{low} to {high} files"
        raise BadRequest(f"{name}: {wanted} must be sent, not {len(found)}", param=name)
    form.expect_files(name)
    checking = Uploads(limit)
    return tuple(checking.checked(file, name) for file in found)


def _references(form: forms.Form) -> Mapping[str, object]:
    """The references of a form, which are JSON: a list, or objects one by one."""
    texts = form.texts.get("reference_images", [])
    if web.crowded("\n".join(texts).encode()):
        raise BadRequest("reference_images: too many values", param="reference_images")
    try:
        found: list[Any] = [msgspec.json.decode(text) for text in texts]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest("reference_images: must be JSON", param="reference_images") from None
    if not found:
        return {}
    if len(found) == 1 and isinstance(found[0], list):
        found = cast(list[Any], found[0])
    return {"reference_images": found}


# -- Understanding --------------------------------------------------------------------------------


def chosen(asked: Asked, catalog: Catalog) -> Offering:
    """The model that was named, or else the first that can do it, or could nearly.

    Raises:
        UnknownModel: there is none of this name.
        BadRequest: more images are to be combined than it takes.
    """
    if asked.shape.model is not None:
        model = catalog.find(asked.shape.model)
    else:
        model = next(_fitting(asked, catalog))
    if asked.operation == "combine" and len(asked.inputs) > model.max_inputs:
        name = asked.inputs[0][0].partition("[")[0]
        message = f"{name}: {model.id} takes {model.max_inputs} at most"
        raise BadRequest(message, param=name)
    return model


def _fitting(asked: Asked, catalog: Catalog) -> Iterator[Offering]:
    wanted = len(asked.inputs)
    if asked.sources:
        yield from (each for each in catalog.offerings if edits(each) and each.max_inputs >= wanted)
        yield from (each for each in catalog.offerings if edits(each))
    yield from (each for each in catalog.offerings if "generate" in each.tasks)
    yield from catalog.offerings


async def to_draft(asked: Asked, model: Offering, uploads: Uploads) -> Draft:
    """What the client meant.

    Raises:
        Refusal: an image cannot be got.
    """
    shape = asked.shape
    looks = bool(asked.inputs) or (bool(asked.sources) and "edit" in model.tasks)
    size = _size(shape, model) if looks and not asked.inputs else None
    return Draft(
        dialect="depicta",
        task="edit" if looks else "generate",
        model=model.id,
        prompt=asked.prompt,
        negative_prompt=shape.negative_prompt or "",
        n=shape.n or 1,
        width=size and size.width,
        height=size and size.height,
        aspect_ratio=None if size else shape.aspect_ratio,
        resolution=None if size else shape.image_size,
        seed=None if shape.seed == -1 else shape.seed,
        steps=shape.steps,
        guidance=shape.guidance,
        strength=shape.strength,
        images=tuple([await _bytes(*source, uploads) for source in asked.sources]),
        output_format="png",
        also=("jpeg", "webp"),
        strict=bool(shape.strict),
        ignored=tuple(_ignored(shape)),
    )


def _size(shape: Generate, model: Offering) -> Size | None:
    """Of a picture that starts from nothing but looks at images: theirs says nothing of its own."""
    usual = model.sizing.default
    area = TIERS[shape.image_size] ** 2 if shape.image_size else usual.area
    if not (shape.image_size or shape.aspect_ratio):
        return usual
    width, _, height = (shape.aspect_ratio or f"{usual.width}:{usual.height}").partition(":")
    return size_of_area(area, int(width) / int(height), STEP, max(area, STEP * STEP))


async def _bytes(name: str, source: str | bytes, uploads: Uploads) -> bytes:
    return await uploads.url(source, name) if isinstance(source, str) else source


def _ignored(shape: Generate) -> Iterator[Notice]:
    if shape.strictness == "normal":
        yield Notice("strictness", "not available yet: images are not judged yet")
    yield from web.unknown([*_unknown(shape)])


def _unknown(shape: Generate) -> Iterator[str]:
    yield from fields.unknown_keys(shape)
    for i, reference in enumerate(shape.reference_images or ()):
        yield from (f"reference_images[{i}].{key}" for key in fields.unknown_keys(reference))
