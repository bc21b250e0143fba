"""How each of the four dialects is asked for a picture, and what its answer holds.

The dialects of hosted services, so that other servers can be measured as well; where a server says
what its seconds went to, in the answer or in a `Server-Timing` header, that is read. What a dialect
cannot say is not said here, and `bench/words.py` sees to it that this is known.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from PIL import Image, ImageDraw

from bench import words
from bench.mix import Kind, Planned, Task

Json: TypeAlias = dict[str, Any]

# https://www.w3.org/TR/server-timing/, the parameter `dur` in ms.
TIMING = re.compile(r'(?P<name>[\w-]+)[^,]*?;\s*dur="?(?P<ms>\d+(?:\.\d+)?)')
DESCRIBED = re.compile(r';\s*desc="(?:[^"\\]|\\.)*"')  # whatever it says is no time


@dataclass(frozen=True, slots=True)
class Ask:
    """An HTTP request."""

    path: str
    json: Json | None = None
    data: Json | None = None  # of a form
    files: list[tuple[str, tuple[str, bytes, str]]] = field(
        default_factory=list[tuple[str, tuple[str, bytes, str]]]
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: how many pictures, and what the server says of its seconds, if it does."""

    images: int
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])


def listed(_: Task) -> str:
    """Where most list their models: all of them, whatever is wanted of them."""
    return "/models"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One service's words.

    Attributes:
        base: where its API begins, unless the URL says so itself.
        ask: a planned request in its words.
        read: the answer, from its content type and body.
        listing: the path at which models for a task are listed.
    """

    base: str
    ask: Callable[[Planned], Ask]
    read: Callable[[str, bytes], Answer]
    listing: Callable[[Task], str] = listed


def timing(header: str) -> dict[str, float]:
    """Seconds by name, of a `Server-Timing` header; what says no time is left out."""
    found = TIMING.finditer(DESCRIBED.sub("", header))
    return {match["name"]: float(match["ms"]) / 1000 for match in found}


# -- Images to start from -------------------------------------------------------------------------


@cache
def picture(width: int, height: int) -> bytes:
    """A PNG to be edited: a disc on a gradient."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    ImageDraw.Draw(image).ellipse(
        (width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=(200, 40, 40)
    )
    return _png(image)


@cache
def mask(width: int, height: int) -> bytes:
    """A PNG whose transparent middle half may be repainted."""
    alpha = Image.new("L", (width, height), 255)
    alpha.paste(0, (width // 4, height // 4, width * 3 // 4, height * 3 // 4))
    return _png(Image.merge("LA", (Image.new("L", (width, height)), alpha)).convert("RGBA"))


def _png(image: Image.Image) -> bytes:
    image.save(file := io.BytesIO(), "PNG", compress_level=1)
    return file.getvalue()


def _url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _some(**values: Any) -> Json:
    """Those that are not None: left out means the server's own choice."""
    return {name: value for name, value in values.items() if value is not None}


def _texts(body: Json) -> Json:
    """The fields of a form."""
    bools = {True: "true", False: "false"}
    return {
        name: bools[value] if isinstance(value, bool) else str(value)
        for name, value in body.items()
    }


def _images(kind: Kind) -> tuple[bytes, bytes | None]:
    marked = mask(kind.width, kind.height) if kind.task == "inpaint" else None
    return picture(kind.width, kind.height), marked


# -- AIMO -----------------------------------------------------------------------------------------


def _ask_aimo(planned: Planned) -> Ask:
    kind = planned.kind
    body = _some(
        model=kind.model or "default",
        prompt=planned.prompt,
        n=kind.n,
        width=str(kind.width),
        height=str(kind.height),
        steps=kind.steps,
        guide_scale=kind.guidance,
        seed=planned.seed,
        stream=kind.stream or None,
        output_type="file" if kind.n == 1 and not kind.stream else "data_url",
    )
    if kind.task == "generate":
        return Ask("/image/generate", json=body)
    base, marked = _images(kind)
    body |= {"images": [{"b64": _url(base)}]} | _some(strength=kind.strength)
    return Ask("/image/edit", json=body | ({"mask": {"b64": _url(marked)}} if marked else {}))


def _read_aimo(kind: str, body: bytes) -> Answer:
    if kind.startswith("image/"):
        return Answer(1)
    document = json.loads(body)
    return Answer(len(document["images"]), document["provider_metadata"]["raw"].get("seconds", {}))


# -- OpenAI ---------------------------------------------------------------------------------------


def _ask_openai(planned: Planned) -> Ask:
    kind = planned.kind
    body = _some(
        model=kind.model or None,
        prompt=planned.prompt,
        n=kind.n,
        size=f"{kind.width}x{kind.height}",
        response_format="b64_json",
        steps=kind.steps,
        num_inference_steps=kind.steps,
        guidance=kind.guidance,
        guidance_scale=kind.guidance,
        seed=planned.seed,
    )
    if kind.stream:
        body |= {"stream": True, "partial_images": 1}
    if kind.task == "generate":
        return Ask("/images/generations", json=body)
    base, marked = _images(kind)
    files = [("image", ("image.png", base, "image/png"))]
    if marked:
        files.append(("mask", ("mask.png", marked, "image/png")))
    body |= _some(strength=kind.strength)
    return Ask("/images/edits", data=_texts(body), files=files)


def _read_openai(kind: str, body: bytes) -> Answer:
    document = json.loads(body)
    return Answer(len(document["data"]), document.get("limner", {}).get("seconds", {}))


# -- Venice ---------------------------------------------------------------------------------------


def _ask_venice(planned: Planned) -> Ask:
    kind = planned.kind
    if kind.task == "generate":
        body = _some(
            model=kind.model or "default",
            prompt=planned.prompt,
            width=kind.width,
            height=kind.height,
            steps=kind.steps,
            cfg_scale=kind.guidance,
            seed=planned.seed % 1_000_000_000,
            variants=kind.n if kind.n > 1 else None,
            return_binary=kind.n == 1,
            format="png",
            safe_mode=False,
        )
        return Ask("/image/generate", json=body)
    base, _ = _images(kind)
    return Ask(
        "/image/edit",
        json=_some(
            model=kind.model or None, prompt=planned.prompt, image=_url(base), safe_mode=False
        ),
    )


def _listed_by_venice(task: Task) -> str:
    return f"/models?type={'image' if task == 'generate' else 'inpaint'}"


def _read_venice(kind: str, body: bytes) -> Answer:
    if kind.startswith("image/"):
        return Answer(1)
    document = json.loads(body)
    timing: Mapping[str, float] = document.get("timing", {})
    names = {"queue": "inferenceQueueTime", "paint": "inferenceDuration"}
    seconds = {name: timing[theirs] / 1000 for name, theirs in names.items() if theirs in timing}
    return Answer(len(document["images"]), seconds)


# -- Depicta --------------------------------------------------------------------------------------


def _ask_depicta(planned: Planned) -> Ask:
    kind = planned.kind
    ratio, tier = (words.sized(kind) and words.tier(kind)) or (None, None)
    body = _some(
        model=kind.model or None,
        prompt=planned.prompt,
        aspect_ratio=ratio,
        image_size=tier,
        steps=kind.steps,
        guidance=kind.guidance,
        seed=planned.seed,
    )
    if kind.task == "generate":
        return Ask("/generate/image", json=body)
    base, _ = _images(kind)
    body |= _some(strength=kind.strength)
    return Ask(
        "/edit/image", data=_texts(body), files=[("image", ("image.png", base, "image/png"))]
    )


def _read_depicta(kind: str, body: bytes) -> Answer:
    document = json.loads(body)
    return Answer(len(document.get("image_urls") or [document["image_url"]]))


DIALECTS: Mapping[str, Dialect] = {
    "aimo": Dialect("/aimo/api/v1", _ask_aimo, _read_aimo),
    "openai": Dialect("/openai/v1", _ask_openai, _read_openai),
    "venice": Dialect("/venice/api/v1", _ask_venice, _read_venice, _listed_by_venice),
    "depicta": Dialect("/depicta/v1", _ask_depicta, _read_depicta),
}
