"""Starting weights from the folder of an earlier model, which may know fewer words.

A start at random takes tens of thousands of pictures to learn where things stand and that they have
outlines; a model of the same build that knows it for other latents or words relearns in hundreds.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.demo.denoiser import Denoiser

TOKENS = "embeddings.token_embedding.weight"


@torch.no_grad()
def inherit(denoiser: Denoiser, folder: Path) -> list[str]:
    """Takes over UNet and text encoder; returns the tokens that stay at random, being new."""
    denoiser.unet.load_state_dict(weights_in(folder / "unet"))
    mine, theirs = denoiser.text.state_dict(), weights_in(folder / "text_encoder")
    fresh: list[str] = []
    for name, weights in mine.items():
        its = find(theirs, name)
        if name.endswith(TOKENS):
            fresh = by_token(weights, its, denoiser.tokenizer.get_vocab(), vocabulary_of(folder))
        else:
            weights.copy_(its)
    return fresh


def weights_in(folder: Path) -> dict[str, Tensor]:
    (file,) = folder.glob("*.safetensors")
    return {name: weights.float() for name, weights in load_file(file).items()}


def find(weights: dict[str, Tensor], name: str) -> Tensor:
    """A text encoder's weights are saved with a prefix or without, as transformers' version has it.

    Errors: KeyError where there are none of the name.
    """
    short = name.removeprefix("text_model.")
    return weights[short] if short in weights else weights[f"text_model.{short}"]


def vocabulary_of(folder: Path) -> dict[str, int]:
    return json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]


def by_token(
    rows: Tensor, theirs: Tensor, here: dict[str, int], there: dict[str, int]
) -> list[str]:
    """Copies the rows of the tokens that both know, whose numbers differ."""
    for token, number in here.items():
        if token in there:
            rows[number] = theirs[there[token]]
    return [token for token in here if token not in there]
