"""The first lesson of the FLUX-class sibling: its text encoders learn to read as `sketch` does.

Captions alone are cheap, and a flow that starts with words that already mean something learns what
they look like sooner.
"""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn

from models.demo.batches import tokenized
from models.demo.captions import caption
from models.demo.flow import GIST, FlowDenoiser
from models.demo.recipe import PrimerRecipe
from models.demo.scenes import FRAMES, KINDS, compose, pick
from models.demo.teacher import Teacher
from models.demo.text import WIDTH


class Primer(nn.Module):
    """Both text encoders, and what brings the narrower one's output to the teacher's width."""

    def __init__(self, denoiser: FlowDenoiser) -> None:
        super().__init__()
        self.gist, self.words = denoiser.gist, denoiser.words
        self.widened = nn.Linear(GIST, WIDTH)


def primer_loss(
    primer: Primer,
    teacher: Teacher,
    denoiser: FlowDenoiser,
    recipe: PrimerRecipe,
    device: torch.device,
) -> Callable[[int], Tensor]:
    """The loss of a step number: mean squared errors of the words' and of the prompt's meaning."""

    def loss(step: int) -> Tensor:
        rng = Random(recipe.seed * 1_000_003 + step)
        texts = [said(recipe, rng) for _ in range(recipe.batch)]
        tokens = tokenized(denoiser.tokenizer, texts).to(device)
        with torch.no_grad():
            known = teacher.text(tokens)
        each = primer.words(tokens).last_hidden_state - known.last_hidden_state
        whole = primer.widened(primer.gist(tokens).pooler_output) - known.pooler_output
        return each.square().mean() + whole.square().mean()

    return loss


def said(recipe: PrimerRecipe, rng: Random) -> str:
    """A caption of a scene of its own, which is never drawn."""
    scene = compose(pick(rng, KINDS, recipe.mix), rng, pick(rng, FRAMES))
    return caption(scene, rng, recipe.explicit)
