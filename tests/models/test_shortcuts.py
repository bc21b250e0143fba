"""Steps that are predicted: only where asked for, each canvas by itself, labelled, and no trace."""

import copy
import dataclasses
import gc
import re
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from models import shortcuts
from models.canvas import Canvas, CanvasCancelled, Unloadable
from models.checkpoint import Checkpoint
from models.contract import Finished, Job, Tuning
from models.merge import Forward, plainly
from models.shortcuts import Blocks, FirstBlock, Forecast
from tests.models.sitter import Run, Sitter, load
from tests.models.stock import job, picture, raw

STEPS = 21
# Thresholds at which the tiny networks, whose steps are long, skip some and run others.
CACHES = {
    "sd3": 0.3,
    "flux": 0.3,
    "flux_schnell": 0.27,
    "flux_fill": 0.2,
    "flux_kontext": 0.3,
    "flux2": 0.6,
    "flux2_klein_base": 1.4,
    "qwen_image": 1.2,
    "qwen_edit_plus": 1.2,
    "z_image": 0.6,
}
CACHED = [("step_cache", name) for name in CACHES]
FORECAST = [("step_forecast", name) for name in ("sd", "sdxl", "flux", "qwen_image", "z_image")]
ONCE_EACH = [
    *(("step_cache", name) for name in ("sd3", "flux", "flux2", "qwen_image", "z_image")),
    *(("step_forecast", name) for name in ("sd", "qwen_image")),
]
KINDS = ["step_cache", "step_forecast"]


@pytest.fixture(scope="session")
def cut(folder_of: Callable[[str], Path]) -> Callable[[str, str], Checkpoint]:
    """A checkpoint with shortcuts of a kind."""

    @cache
    def model(kind: str, name: str) -> Checkpoint:
        return load(name, folder_of(name), tuning=tuning(kind, name))

    return model


def tuning(kind: str, name: str) -> Tuning:
    if kind == "step_forecast":
        return Tuning(step_forecast=2)
    return Tuning(step_cache=CACHES[name])


def long(name: str, task: str, **changes: object) -> Job:
    return job(name, task, **({"steps": STEPS, "strength": 1.0} | changes))


def alone(model: Checkpoint, asked: Job) -> Run:
    run = Run(model)
    run.start(asked)
    run.finish()
    return run


def labels(run: Run, name: str) -> list[str]:
    (end,) = [each for each in run.events if isinstance(each, Finished) and each.job == name]
    return [note for note in end.notes if "predicted" in note]


@pytest.mark.parametrize(("kind", "name"), [*CACHED, *FORECAST])
def test_every_task_is_cut_short_and_says_so(
    cut: Callable[[str, str], Checkpoint], kind: str, name: str
) -> None:
    model = cut(kind, name)
    for task in model.tasks:
        (label,) = labels(alone(model, long("owl", task)), "owl")
        said = re.fullmatch(rf"steps: (\d+) of (\d+) were predicted from others \({kind}\)", label)
        assert said is not None, label
        assert 0 < int(said[1]) < int(said[2]) <= STEPS


@pytest.mark.parametrize(("kind", "name"), ONCE_EACH)
def test_short_and_strict_jobs_are_painted_as_without(
    cut: Callable[[str, str], Checkpoint],
    model_of: Callable[[str], Checkpoint],
    kind: str,
    name: str,
) -> None:
    task = model_of(name).tasks[0]
    for asked in (long("owl", task, strict=True), long("fox", task, steps=19)):
        run, expected = (alone(model, asked) for model in (cut(kind, name), model_of(name)))
        assert (run.pixels(asked.id) == expected.pixels(asked.id)).all()
        assert not labels(run, asked.id)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_that_begins_late_is_as_long_as_what_is_left(
    cut: Callable[[str, str], Checkpoint], kind: str
) -> None:
    model = cut(kind, "flux")
    assert not labels(alone(model, long("owl", "edit", strength=0.9)), "owl")
    assert labels(alone(model, long("owl", "edit", strength=0.99)), "owl")


@pytest.mark.parametrize(("kind", "name"), ONCE_EACH)
def test_in_turns_each_is_as_alone_to_the_bit(
    cut: Callable[[str, str], Checkpoint], kind: str, name: str
) -> None:
    """Step by step beside each other, a strict one, and one that leaves."""
    model, seen = latents_kept(cut(kind, name))
    task = model.tasks[0]
    jobs = [
        long("owl", task),
        long("fox", task, steps=24, guidance=2.5, seeds=(8,)),
        long("elk", task, strict=True),
        long("cat", task, seeds=(9,)),
    ]
    row = in_turns(model, jobs, leaves="cat")
    together = list(seen)
    assert len(together) == 3
    for asked, canvas in zip(jobs[:3], row, strict=False):
        seen.clear()
        (single,) = in_turns(model, [asked])
        assert canvas.notes == single.notes
        assert any(torch.equal(seen[0], latents) for latents in together)


def in_turns(model: Checkpoint, jobs: Sequence[Job], leaves: str = "") -> list[Canvas]:
    """One call of each canvas after the other; the one that leaves does so after some."""
    row = [Canvas(asked, 0, lambda *_: None) for asked in jobs]
    for canvas in row:
        canvas.start(model, [raw(picture(1))] * canvas.job.inputs, None)
    rounds = 0
    while calls := [(canvas, canvas.waiting) for canvas in row if canvas.waiting]:
        rounds += 1
        for canvas, call in calls:
            if canvas.job.id == leaves and rounds == 12:
                canvas.throw(CanvasCancelled())
            else:
                canvas.answer(call.run([call])[0])
    return row


def latents_kept(model: Checkpoint) -> tuple[Checkpoint, list[torch.Tensor]]:
    """The model, and what is decoded from now on: pixels of tiny networks tell little."""
    seen: list[torch.Tensor] = []

    def way(forward: Forward) -> Any:
        if "z" in forward.arguments:
            seen.append(forward.arguments["z"])
        return plainly(forward)

    return dataclasses.replace(model, way=way), seen


class Recorder(Sitter):
    """Keeps what the denoiser is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def ask(self, call: Any) -> Any:
        if call.kind == "forward":
            self.asked.append(call.arguments.arguments)
        return super().ask(call)


@pytest.mark.parametrize("name", ["flux", "qwen_image"])
def test_the_cache_is_that_of_diffusers(model_of: Callable[[str], Checkpoint], name: str) -> None:
    """To the bit, for two-stream blocks: theirs knows no others."""
    recorder = Recorder()
    asked = long("owl", "generate", guidance=1.0, negative_prompt="")
    model_of(name).paint(asked, 0, [], None, recorder)
    # Both copies: products of weights that lie otherwise in memory may differ in their last digits.
    denoiser, theirs = (copy.deepcopy(model_of(name).pipe.transformer) for _ in range(2))
    theirs.enable_cache(diffusers.FirstBlockCacheConfig(threshold=CACHES[name]))
    known, skipped = FirstBlock(Blocks(denoiser, CACHES[name])), []
    with torch.no_grad(), theirs.cache_context("cond"):
        for said in recorder.asked:
            output, predicted = known.run(Forward(denoiser, said), plainly)
            assert torch.equal(output[0], theirs(**said)[0])
            assert predicted != torch.equal(output[0], denoiser(**said)[0])
            skipped.append(predicted)
    assert 0 < sum(skipped) < len(skipped) == STEPS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cancelled", [False, True])
def test_nothing_is_left_of_a_canvas(
    cut: Callable[[str, str], Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cancelled: bool,
) -> None:
    model = cut(kind, "flux")
    denoiser = model.pipe.transformer
    before = [*denoiser.named_modules()]
    outputs: list[weakref.ref[torch.Tensor]] = []
    forward = denoiser.proj_out.forward

    def watched(*args: Any) -> torch.Tensor:
        outputs.append(weakref.ref(result := forward(*args)))
        return result

    monkeypatch.setattr(denoiser.proj_out, "forward", watched)
    guesses: list[weakref.ref[Any]] = []
    start = model.shortcuts and model.shortcuts.start
    assert start is not None

    class Known:
        def __init__(self) -> None:
            self.guess = start()
            guesses.append(weakref.ref(self))

        def run(self, forward: Forward, way: Any) -> Any:
            return self.guess.run(forward, way)

    shortened = shortcuts.Shortcuts(denoiser, kind, Known)
    run = Run(dataclasses.replace(model, shortcuts=shortened))
    run.start(long("owl", "generate"))
    for _ in range(9):
        run.studio.tick()
    assert [each() is None for each in guesses] == [False]
    if cancelled:
        run.studio.cancel("owl", 0)
    run.finish()
    assert run.frees(long("fox", "generate"), Run.cancel if cancelled else Run.finish)
    gc.collect()
    assert [*denoiser.named_modules()] == before
    assert all(each() is None for each in (*guesses, *outputs))


@pytest.mark.parametrize("fault", [RuntimeError, torch.OutOfMemoryError])
def test_blocks_are_back_in_their_place_after_a_fault(
    cut: Callable[[str, str], Checkpoint], fault: type[Exception]
) -> None:
    denoiser = cut("step_cache", "flux").pipe.transformer
    before = [*denoiser.named_modules()]

    def fails(forward: Forward) -> Any:
        raise fault("no")

    with pytest.raises(fault):
        Blocks(denoiser, 0.1).run(Forward(denoiser, {}), fails, FirstBlock(None))
    assert [*denoiser.named_modules()] == before


def test_a_network_without_such_blocks_is_refused(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(Unloadable, match="step_cache: UNet2DConditionModel"):
        load("sd", folder_of("sd"), tuning=Tuning(step_cache=0.1))


def test_blocks_that_travel_are_refused(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(Unloadable, match="offload"):
        load("flux", folder_of("flux"), tuning=Tuning(step_cache=0.1), offload="all")


@pytest.mark.parametrize(("every", "ran"), [(2, [0, 1, 2, 4, 6, 8]), (3, [0, 1, 2, 5, 8])])
def test_what_changes_evenly_is_forecast_exactly(every: int, ran: list[int]) -> None:
    forecast, seen = Forecast(every), []

    def network(at: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        seen.append(at)
        return torch.tensor([1.0, 2.0]) * at + 3, [torch.tensor(at / 4)]

    for at in range(9):
        output, predicted = forecast.run(Forward(network, {"at": at}), plainly)
        assert torch.equal(output[0], torch.tensor([1.0, 2.0]) * at + 3)
        assert output[1] == [torch.tensor(at / 4)]
        assert predicted == (at not in ran)
    assert seen == ran
