"""What `sketch` teaches its sibling: the same latents in other terms, and how to read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor, nn
from transformers import CLIPTokenizer

from models.demo.batches import tokenized
from models.demo.denoiser import TIMES, signal_levels
from models.demo.flow import FlowDenoiser, flow_loss, shares
from models.demo.latents import Latents
from models.demo.muon import optimizers
from models.demo.primer import Primer, primer_loss, said
from models.demo.recipe import POOLS, SHAPES_ONLY, FlowRecipe, Phase, PrimerRecipe
from models.demo.teacher import Teacher, noise_levels

CPU = torch.device("cpu")
FOLDER = Path(__file__).parents[2] / "models" / "demo" / "sketch"
TEXTS = ["a red cat on a blue background", "", "green", "two fish"]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(FOLDER)


@pytest.fixture
def student() -> FlowDenoiser:
    return FlowDenoiser(1)


def noise(*shape: int, seed: int = 4) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_teacher_says_of_a_mix_on_the_straight_line_what_it_says_of_its_own(
    teacher: Teacher, student: FlowDenoiser
) -> None:
    times = torch.tensor([0, 7, 400, TIMES - 1])
    signal = signal_levels()[times][:, None, None, None]
    rest = (1 - signal**2).sqrt()
    clean, dirt = noise(4, 4, 16, 16), noise(4, 4, 16, 16, seed=5)
    tokens = tokenized(student.tokenizer, TEXTS)
    sigmas = noise_levels()[times]
    share = sigmas[:, None, None, None]
    with torch.inference_mode():
        own, meaning = signal * clean + rest * dirt, teacher.text(tokens).last_hidden_state
        v = teacher.unet(own, times, encoder_hidden_states=meaning).sample
        said = teacher((1 - share) * clean + share * dirt, sigmas, tokens)
    picture, noises = signal * own - rest * v, rest * own + signal * v
    torch.testing.assert_close(said, noises - picture, atol=2e-4, rtol=1e-4)


def test_the_teacher_finds_its_times_by_the_share_of_noise(teacher: Teacher) -> None:
    times = torch.arange(TIMES).float()
    torch.testing.assert_close(teacher.times(noise_levels()), times)
    assert teacher.times(torch.tensor([0.0, 1.0])).tolist() == [0, TIMES - 1]
    between = noise_levels()[400:402].mean()[None]
    assert 400 < float(teacher.times(between)) < 401


def test_both_tokenizers_give_words_the_numbers_that_the_teacher_learned(
    student: FlowDenoiser,
) -> None:
    shipped = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    assert student.tokenizer.get_vocab() == shipped.get_vocab()


def lessened(model: nn.Module, loss: Callable[[int], Tensor], steps: int) -> tuple[float, float]:
    """The loss of one batch before and after so many steps on it."""
    movers, losses = optimizers(model, 0.01), []
    for _ in range(steps):
        value = loss(0)
        value.backward()
        for mover in movers:
            mover.step()
        model.zero_grad()
        losses.append(value.item())
    return losses[0], losses[-1]


def test_the_encoders_learn_to_read_as_the_teacher_does(
    teacher: Teacher, student: FlowDenoiser
) -> None:
    recipe, primer = replace(PrimerRecipe(), batch=8), Primer(student)
    first, last = lessened(primer, primer_loss(primer, teacher, student, recipe, CPU), 20)
    assert last < 0.5 * first
    mine = dict(student.named_parameters())
    assert all(mine[name] is its for name, its in primer.named_parameters() if name in mine)


def test_captions_for_reading_cover_the_grammar_and_silence() -> None:
    texts = {said(PrimerRecipe(), Random(number)) for number in range(400)}
    words = {word for text in texts for word in text.split()}
    assert {"", "red", "cat", "circle"} <= texts | words
    assert {"two", "above", "sea"} <= words


def latents() -> Latents:
    return Latents(
        {
            (kind, frame): noise(8, 4, frame[1] // 8, frame[0] // 8, seed=index)
            for index, (kind, frame) in enumerate(POOLS)
        },
        1.0,
    )


ONE = (Phase(1, SHAPES_ONLY, square=1.0, explicit=1.0, batch=16),)


class Constant(nn.Module):
    """A teacher of one answer."""

    def forward(self, noisy: Tensor, sigmas: Tensor, tokens: Tensor) -> Tensor:
        return torch.full_like(noisy, 2.0)


def test_from_its_step_on_the_teacher_sets_the_targets(student: FlowDenoiser) -> None:
    recipe = replace(FlowRecipe(), phases=ONE, taught=1, clear=0.0)

    def of_silence(recipe: FlowRecipe, step: int) -> float:
        """The loss of a student that says nothing yet; a picture's own direction has variance 2."""
        with torch.no_grad():
            return float(flow_loss(student, recipe, latents(), CPU, Constant())(step))

    assert of_silence(recipe, 1) == pytest.approx(4, abs=1e-3)
    assert of_silence(recipe, 0) == pytest.approx(2, abs=0.2)
    assert of_silence(replace(recipe, clear=1.0), 1) == pytest.approx(2, abs=0.2)
    assert 2.2 < of_silence(replace(recipe, clear=0.7), 1) < 3.8


@pytest.mark.parametrize("taught", [False, True])
def test_shares_of_noise_rise_and_reach_nearly_all(taught: bool) -> None:
    drawn = shares((torch.arange(64) + 0.5) / 64, FlowRecipe(), taught=taught)
    assert torch.equal(drawn, drawn.sort().values)
    assert 0 < float(drawn[0]) < 0.2 < 0.95 < float(drawn[-1]) <= 1


def test_attention_written_out_gives_what_diffusers_own_gives(student: FlowDenoiser) -> None:
    for parameter in student.transformer.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    noisy, sigmas = noise(2, 4, 16, 24), torch.tensor([0.2, 0.9])
    tokens = tokenized(student.tokenizer, TEXTS[:2])
    with torch.inference_mode():
        ours = student(noisy, sigmas, tokens)
        stock: Any = FluxAttnProcessor()
        student.transformer.set_attn_processor(stock)
        theirs = student(noisy, sigmas, tokens)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
