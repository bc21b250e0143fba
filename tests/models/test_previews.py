"""What is shown of a picture on its way is what is being painted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image as Pillow

from models.canvas import Unloadable
from models.checkpoint import Checkpoint
from models.contract import Image
from models.preview import Projection
from tests.models.sitter import Sitter, close, load
from tests.models.stock import HEIGHT, STOCK, WIDTH, job, picture, raw


@dataclass
class Keeper:
    """In place of the preview: keeps what it is to show."""

    preview: Any
    shown: list[torch.Tensor] = field(default_factory=list)

    def render(self, latents: torch.Tensor) -> Image:
        self.shown.append(latents)
        return self.preview.render(latents)


@pytest.mark.parametrize("name", list(STOCK))
def test_the_last_preview_shows_what_is_decoded(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    model = model_of(name)
    keeper, sitter = Keeper(model.preview), Sitter()
    watched = replace(model, preview=keeper)
    task = model.tasks[0]
    scheduler = "euler" if model.family.schedulers else ""  # whose last step lands on the outcome
    blank = raw(Pillow.new("L", (WIDTH, HEIGHT), 255))  # nothing is blended in at the end
    asked = job("owl", task, negative_prompt="", scheduler=scheduler, strength=1.0)
    watched.paint(
        asked, 0, [raw(picture(1))] * asked.inputs, blank if asked.masked else None, sitter
    )
    (decoded,) = sitter.decoded
    last = keeper.shown[-1]
    assert torch.allclose(last, decoded.reshape(last.shape), atol=1e-4)
    cells = (WIDTH // 8, HEIGHT // 8)
    assert {(image.width, image.height) for image in sitter.previews} == {cells}


def tiny_autoencoder(channels: int) -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=channels,
    )


@pytest.mark.parametrize(("name", "channels"), [("sdxl", 4), ("flux", 16), ("sd3", 16)])
def test_a_tiny_autoencoder_shows_what_it_was_made_to_decode(
    folder_of: Callable[[str], Path], tmp_path: Path, name: str, channels: int
) -> None:
    """It is given what the pipeline's own latents are before they are scaled for the VAE."""
    torch.manual_seed(2)
    tiny_autoencoder(channels).save_pretrained(tmp_path)
    model = load(name, folder_of(name), preview=str(tmp_path))
    sitter = Sitter()
    model.paint(job("owl", model.tasks[0], negative_prompt=""), 0, [], None, sitter)
    (decoded,) = sitter.decoded
    config = model.pipe.vae.config
    latents = (decoded - (config.shift_factor or 0)) * config.scaling_factor
    stock = AutoencoderTiny.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        shown = stock.decode(latents).sample[0] / 2 + 0.5
    last = sitter.previews[-1]
    assert (last.width, last.height) == (WIDTH, HEIGHT)
    pixels = np.frombuffer(last.pixels, np.uint8).reshape(HEIGHT, WIDTH, 3)
    close(pixels, np.round(shown.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8))


def test_a_tiny_autoencoder_of_another_model_is_refused(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    tiny_autoencoder(16).save_pretrained(tmp_path)
    with pytest.raises(Unloadable, match="16 channels; this model's have 4"):
        load("sd", folder_of("sd"), preview=str(tmp_path))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_preview_that_went_wrong_is_shown_and_ends_no_picture(bad: float) -> None:
    latents = torch.full((4, 2, 2), bad)
    seen = Projection(torch.full((5, 3), 1e30)).render(latents)
    assert (seen.width, seen.height, len(seen.pixels)) == (2, 2, 12)
