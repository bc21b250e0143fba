"""Pictures from a trained folder, for grading: text to picture, and filling a mask.

Every picture has its own seed, so a result does not depend on what else is in the batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image

from models.demo.measures import Mask, Pixels

AT_ONCE = 10


class Painter:
    def __init__(self, folder: Path, steps: int, guidance: float) -> None:
        self.steps, self.guidance = steps, guidance
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
        self.inpainter = StableDiffusionInpaintPipeline(**self.pipeline.components)
        for pipeline in (self.pipeline, self.inpainter):
            pipeline.set_progress_bar_config(disable=True)

    def paint(
        self, prompts: Sequence[str], seeds: Sequence[int], guidance: float | None = None
    ) -> list[Pixels]:
        """One picture per prompt, (128, 128, 3) each."""
        pictures: list[Pixels] = []
        for first in range(0, len(prompts), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            made: Any = self.pipeline(
                list(prompts[part]),
                num_inference_steps=self.steps,
                guidance_scale=self.guidance if guidance is None else guidance,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                output_type="np",
            )
            pictures += [to_bytes(image) for image in made.images]
        return pictures

    def fill(self, picture: Image.Image, mask: Mask, prompt: str, seed: int) -> Pixels:
        """The picture with what lies under the mask painted anew."""
        made: Any = self.inpainter(
            prompt,
            image=picture,
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
            height=picture.height,
            width=picture.width,
            strength=1.0,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        )
        return to_bytes(made.images[0])


def to_bytes(image: np.ndarray) -> Pixels:
    return (image * 255).round().clip(0, 255).astype(np.uint8)
