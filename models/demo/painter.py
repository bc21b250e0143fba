"""Pictures from a trained folder, for grading: text to picture, filling a mask, a round trip.

Every picture has its own seed, so a result does not depend on what else is in the batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoPipelineForInpainting,
    DiffusionPipeline,
    FluxPipeline,
)
from PIL import Image

from models.demo.latents import pixels
from models.demo.measures import Mask, Pixels
from models.demo.scenes import SQUARE, Frame
from models.demo.vae import posterior_of

AT_ONCE = 10


class Painter:
    def __init__(self, folder: Path, steps: int, guidance: float) -> None:
        self.steps, self.guidance = steps, guidance
        self.pipeline: Any = DiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
        self.inpainter: Any = AutoPipelineForInpainting.from_pipe(self.pipeline)
        for pipeline in (self.pipeline, self.inpainter):
            pipeline.set_progress_bar_config(disable=True)

    def paint(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None = None,
        frame: Frame = SQUARE,
        negative: str = "",
    ) -> list[Pixels]:
        """One picture per prompt, (height, width, 3) each."""
        pictures: list[Pixels] = []
        for first in range(0, len(prompts), AT_ONCE):
            part = list(prompts[first : first + AT_ONCE])
            made: Any = self.pipeline(
                part,
                **self.said(len(part), negative, guidance),
                width=frame[0],
                height=frame[1],
                generator=[dice(seed) for seed in seeds[first : first + AT_ONCE]],
            )
            pictures += [to_bytes(image) for image in made.images]
        return pictures

    def fill(self, picture: Image.Image, mask: Mask, prompt: str, seed: int) -> Pixels:
        """The picture with what lies under the mask painted anew."""
        made: Any = self.inpainter(
            [prompt],
            **self.said(1, "", None),
            image=picture,
            mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
            height=picture.height,
            width=picture.width,
            strength=1.0,
            generator=dice(seed),
        )
        return to_bytes(made.images[0])

    def said(self, count: int, negative: str, guidance: float | None) -> dict[str, Any]:
        """What both pipelines are told for so many prompts."""
        scale = self.guidance if guidance is None else guidance
        told: dict[str, Any] = {"num_inference_steps": self.steps, "output_type": "np"}
        told |= {"negative_prompt": [negative] * count}
        if not isinstance(self.pipeline, FluxPipeline):
            return told | {"guidance_scale": scale}
        length = self.pipeline.tokenizer_2.model_max_length
        return told | {"true_cfg_scale": scale, "max_sequence_length": length}

    @torch.inference_mode()
    def round_trip(self, picture: Image.Image) -> Pixels:
        """The picture as the autoencoder gives it back."""
        latents: Any = posterior_of(self.pipeline.vae, pixels([picture])).mean
        output = self.pipeline.vae.decode(latents, return_dict=False)[0][0]
        return to_bytes((output / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy())


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def to_bytes(image: np.ndarray) -> Pixels:
    return (image * 255).round().clip(0, 255).astype(np.uint8)
