"""Kernels are chosen and chosen back; plain diffusers is also measured as it comes."""

from typing import Any

import pytest
import torch

from bench import kernels, stages, tables
from bench.architectures import ARCHITECTURES, built
from bench.subject import Subject, bare
from models import attention, linears, onednn


def small(name: str) -> Subject:
    shape = ARCHITECTURES[name]
    model = built(shape, torch.device("cpu"), torch.float32, small=True)
    return Subject(name, shape, model, True, 1, shape.family)


@pytest.fixture
def subject() -> Subject:
    return small("sd15")


def test_convolutions_lie_elsewhere_only_meanwhile(subject: Subject) -> None:
    pipe = subject.model.pipe
    weights = [pipe.unet.conv_in.weight, pipe.vae.decoder.conv_in.weight]
    before = [(each.data_ptr(), each.clone()) for each in weights]
    with kernels.laid_out(pipe, torch.contiguous_format):
        assert all(each.is_contiguous() for each in weights)
        assert all(
            torch.equal(each, value) for each, (_, value) in zip(weights, before, strict=True)
        )
    for each, (place, value) in zip(weights, before, strict=True):
        assert each.data_ptr() == place
        assert each.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(each, value)


def test_each_choice_is_measured_and_gated(subject: Subject) -> None:
    told = kernels.kernels(subject)["kernels"]
    own = ["linear layers by oneDNN"] * linears.usable()
    own += ["packed convolutions"] * onednn.usable()
    assert list(told) == ["cuDNN's attention first", *own, "channels last"]
    for each in told.values():
        assert each["step_gain"] == pytest.approx(
            each["eager_step_seconds"] / each["step_seconds"], rel=1e-3
        )
    assert [gate["ok"] for gate in subject.gates] == [True] * len(told)
    lines = [*tables.choices([{"model": "sd15", "kernels": told}])]
    assert len({len(line) for line in lines}) == 1


def test_cudnn_s_attention_is_tried_first_only_where_it_is_asked_for(subject: Subject) -> None:
    seen: list[int] = []
    subject.model.pipe.unet.conv_in.register_forward_pre_hook(
        lambda *_: seen.append(torch._C._get_sdp_priority_order()[0])
    )
    kernels.kernels(subject)
    usual, first = torch._C._get_sdp_priority_order()[0], int(attention.CUDNN_FIRST[0].value)
    assert usual != first
    assert {*seen} == {usual, first}
    choices = [*kernels.choices(subject)]
    assert seen.count(first) * (2 * len(choices) - 1) == seen.count(usual)


def test_plain_diffusers_is_also_measured_as_it_comes(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's order of kernels and convolutions as they are loaded, where limner has its own.

    Whether it is the same there is not asked: no two kernels give the same numbers.
    """
    assert stages.against_bare(small("flux-dev"))["as_it_comes_seconds"] is None
    assert stages.against_bare(subject)["as_it_comes_seconds"] > 0  # its layout is limner's
    assert len(subject.model.recall) == 0  # the stock pipeline reads the prompt each time as well
    seen: list[tuple[int, bool]] = []

    def look(part: Any, *_: Any) -> None:
        first = torch._C._get_sdp_priority_order()[0]
        seen.append((first, part.weight.is_contiguous()))

    subject.model.pipe.unet.conv_in.register_forward_pre_hook(look)
    monkeypatch.setattr(attention, "order_for", lambda device: attention.CUDNN_FIRST)
    usual, first = torch._C._get_sdp_priority_order()[0], int(attention.CUDNN_FIRST[0].value)
    told = stages.against_bare(subject)
    assert told["as_it_comes_seconds"] > 0
    assert {*seen} == {(usual, True), (first, False), (usual, False)}  # and the studio, made before


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_bare_pictures_in_one_call_are_those_of_each_alone(name: str) -> None:
    model, job = small(name).model, small(name).job
    for prompts in (("an owl", "an owl"), ("an owl", "a red barn at night")):
        told = [
            job(prompt=prompt, seeds=(seed,), steps=2, negative_prompt="a cat")
            for seed, prompt in enumerate(prompts)
        ]
        together = bare(model, *told)
        alone = torch.cat([bare(model, each) for each in told])
        assert (together - alone).abs().max() < 1 / 255
        assert (together[0] - together[1]).abs().max() > 1 / 255
