"""What the peers share: the stock pipeline, what a request wants of it, and the answer's document.

Knows nothing of HTTP, nor of limner.
"""

import base64
import copy
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import diffusers  # nothing of it is imported before it is used, and models.vision comes first
import torch
from PIL import Image

from models.vision import LIBRARY as LIBRARY

Document: TypeAlias = dict[str, Any]

WARM_UP = {"prompt": "a red circle", "steps": 2, "size": "128x128", "guidance": 4.0, "seed": 0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wants; those of equal `manner` can be painted in one call."""

    prompt: str
    seed: int
    manner: tuple[int, float, int, int]  # steps, guidance, width, height

    @classmethod
    def of(cls, document: Document) -> "Wish":
        """Read from the body of `POST /images/generations`."""
        width, _, height = str(document["size"]).partition("x")
        manner = (int(document["steps"]), float(document["guidance"]), int(width), int(height))
        return cls(str(document["prompt"]), int(document["seed"]), manner)


def loaded(folder: str) -> Any:
    """The pipeline of a folder on the CPU, one thread, warmed up."""
    torch.set_num_threads(1)
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    for _ in range(2):
        painted(pipe, [Wish.of(WARM_UP)])
    return pipe


def painted(pipe: Any, wishes: Sequence[Wish]) -> list[Image.Image]:
    """The pictures of wishes of one manner, in one call."""
    steps, guidance, width, height = wishes[0].manner
    return pipe(
        prompt=[wish.prompt for wish in wishes],
        num_inference_steps=steps,
        guidance_scale=guidance,
        width=width,
        height=height,
        generator=[torch.Generator("cpu").manual_seed(wish.seed) for wish in wishes],
    ).images


def painted_in_groups(pipe: Any, wishes: Sequence[Wish]) -> list[Image.Image]:
    """The pictures of any wishes, in their order; those of one manner share a call."""
    found: dict[int, Image.Image] = {}
    for manner in dict.fromkeys(wish.manner for wish in wishes):
        places = [i for i, wish in enumerate(wishes) if wish.manner == manner]
        found |= zip(places, painted(pipe, [wishes[i] for i in places]), strict=True)
    return [found[i] for i in range(len(wishes))]


def scoped(pipe: Any) -> Any:
    """A pipeline for one request: the weights are shared, the scheduler is its own."""
    own = copy.copy(pipe)
    own.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    return own


def answer(image: Image.Image) -> Document:
    """The document of one picture."""
    image.save(file := io.BytesIO(), "PNG", compress_level=1)
    return {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}],
    }
