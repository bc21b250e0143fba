"""The studio's pixels equal the stock pipelines', alone and in company."""

from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image as Pillow

from models.checkpoint import Checkpoint
from models.contract import SCHEDULERS as NAMES
from models.contract import AnyEvent, Cancelled, Finished, Image, Job, ModelSpec, Step
from models.families import sd
from models.pixels import whole_cells
from models.studio import Studio
from models.watch import denoised

SIZE = 64
STOCK = {
    "generate": StableDiffusionPipeline,
    "edit": StableDiffusionImg2ImgPipeline,
    "inpaint": StableDiffusionInpaintPipeline,
}


def job(name: str, task: str = "generate", **changes: object) -> Job:
    defaults: dict[str, object] = {
        "id": name,
        "model": "tiny",
        "task": task,
        "prompt": f"a {name}",
        "negative_prompt": "grey",
        "width": SIZE,
        "height": SIZE,
        "steps": 6,
        "guidance": 5.0,
        "strength": 1.0 if task == "inpaint" else 0.7,
        "seeds": (7,),
        "inputs": 0 if task == "generate" else 1,
        "masked": task == "inpaint",
    }
    return Job(**(defaults | changes))


def picture(seed: int) -> Pillow.Image:
    rows = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Pillow.fromarray(rows).resize((SIZE, SIZE), Pillow.Resampling.BICUBIC)


def square_mask() -> Pillow.Image:
    mask = Pillow.new("L", (SIZE, SIZE), 0)
    mask.paste(255, (16, 24, 48, 56))
    return mask


def raw(image: Pillow.Image) -> Image:
    return Image(image.width, image.height, image.mode, image.tobytes())


SCHEDULERS = {
    "ddim": lambda config: diffusers.DDIMScheduler.from_config(config),
    "dpmpp_2m": lambda config: diffusers.DPMSolverMultistepScheduler.from_config(config),
    "dpmpp_2m_karras": lambda config: diffusers.DPMSolverMultistepScheduler.from_config(
        config, use_karras_sigmas=True
    ),
    "euler": lambda config: diffusers.EulerDiscreteScheduler.from_config(config),
    "euler_karras": lambda config: diffusers.EulerDiscreteScheduler.from_config(
        config, use_karras_sigmas=True
    ),
    "euler_ancestral": lambda config: diffusers.EulerAncestralDiscreteScheduler.from_config(config),
    "lcm": lambda config: diffusers.LCMScheduler.from_config(config),
}


def stock(folder: Path, asked: Job, index: int = 0) -> np.ndarray:
    """What diffusers itself loads and paints: nothing of ours in it."""
    pipe = STOCK[asked.task].from_pretrained(folder)
    if asked.scheduler:
        pipe.scheduler = SCHEDULERS[asked.scheduler](pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    size = {} if asked.task == "edit" else {"height": asked.height, "width": asked.width}
    images: dict[str, object] = {}
    if asked.task != "generate":
        images = {"image": picture(1), "strength": asked.strength}
    if asked.task == "inpaint":
        images["mask_image"] = square_mask()
    return np.asarray(
        pipe(
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            num_inference_steps=asked.steps,
            guidance_scale=asked.guidance,
            generator=torch.Generator("cpu").manual_seed(asked.seeds[index]),
            **size,
            **images,
        ).images[0]
    )


class Run:
    """A studio, and what came out of it."""

    def __init__(self, model: Checkpoint, cap: int = 8) -> None:
        self.events: list[AnyEvent] = []
        self.studio = Studio(self.events.append)
        for kind in ("forward", "decode"):
            self.studio.cap("tiny", kind, cap)
        self._model = model

    def start(self, asked: Job) -> None:
        inputs = [raw(picture(1))] if asked.inputs else []
        mask = raw(square_mask()) if asked.masked else None
        self.studio.start(self._model, asked, 0, inputs, mask)

    def finish(self) -> None:
        while len(self.studio):
            self.studio.tick()

    def pixels(self, name: str) -> np.ndarray:
        images = [e.image for e in self.events if isinstance(e, Finished) and e.job == name]
        assert len(images) == 1, self.events[-1]
        return np.frombuffer(images[0].pixels, np.uint8).reshape(SIZE, SIZE, 3)


@pytest.fixture(scope="module")
def model(sd_folder: Path) -> Checkpoint:
    return sd.load(
        ModelSpec(id="tiny", family="sd", path=str(sd_folder), width=64, height=64), "cpu"
    )


@pytest.fixture(scope="module")
def inpainter(sd_inpaint_folder: Path) -> Checkpoint:
    spec = ModelSpec(id="tiny", family="sd", path=str(sd_inpaint_folder), width=64, height=64)
    return sd.load(spec, "cpu")


def strangers() -> Iterator[Job]:
    yield job("stranger-1", "generate", steps=9, guidance=2.0, seeds=(1,))
    yield job("stranger-2", "edit", steps=5, guidance=8.0, seeds=(2,), strength=0.9)
    yield job("stranger-3", "inpaint", steps=12, guidance=3.5, seeds=(3,))


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_the_contract_names_the_schedulers():
    assert set(NAMES) == sd.SCHEDULERS.keys()


@pytest.mark.parametrize("scheduler", ["", *sd.SCHEDULERS])
@pytest.mark.parametrize("task", list(STOCK))
def test_alone_equals_the_stock_pipeline(
    model: Checkpoint, sd_folder: Path, task: str, scheduler: str
) -> None:
    asked = job("owl", task, scheduler=scheduler)
    run = Run(model)
    run.start(asked)
    run.finish()
    close(run.pixels("owl"), stock(sd_folder, asked))


@pytest.mark.parametrize("task", list(STOCK))
def test_among_strangers_equals_the_stock_pipeline(
    model: Checkpoint, sd_folder: Path, task: str
) -> None:
    asked = job("owl", task)
    run = Run(model)
    run.start(asked)
    for stranger in strangers():
        run.start(stranger)
    run.finish()
    for each in (asked, *strangers()):
        close(run.pixels(each.id), stock(sd_folder, each))


def test_a_cancelled_stranger_leaves_no_trace(model: Checkpoint, sd_folder: Path) -> None:
    asked = job("owl")
    run = Run(model)
    run.start(asked)
    for stranger in strangers():
        run.start(stranger)
    for _ in range(3):
        run.studio.tick()
    run.studio.cancel("stranger-1", 0)
    run.finish()
    assert Cancelled("stranger-1", 0) in run.events
    for each in (asked, *list(strangers())[1:]):
        close(run.pixels(each.id), stock(sd_folder, each))


def test_strangers_share_forwards(model: Checkpoint) -> None:
    """Four tasks of 6, 9, 4 and 12 steps take 12 denoiser ticks and a few decodes, not 31 + 4."""
    run = Run(model)
    run.start(job("owl"))
    for stranger in strangers():
        run.start(stranger)
    ticks = 0
    while len(run.studio):
        run.studio.tick()
        ticks += 1
    assert ticks <= 12 + 4


def test_strict_jobs_share_nothing_and_repeat_to_the_bit(model: Checkpoint) -> None:
    alone = Run(model)
    alone.start(job("owl", strict=True))
    alone.finish()
    company = Run(model)
    company.start(job("owl", strict=True))
    for stranger in strangers():
        company.start(stranger)
    company.finish()
    assert (alone.pixels("owl") == company.pixels("owl")).all()


def test_without_guidance_there_is_one_row_and_the_same_picture(
    model: Checkpoint, sd_folder: Path
) -> None:
    asked = job("owl", guidance=1.0, negative_prompt="")
    run = Run(model)
    run.start(asked)
    run.start(job("other", guidance=4.0))
    run.finish()
    close(run.pixels("owl"), stock(sd_folder, asked))


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_nine_channels_inpaint(
    inpainter: Checkpoint, sd_inpaint_folder: Path, guidance: float
) -> None:
    asked = job("owl", "inpaint", guidance=guidance)
    run = Run(inpainter)
    run.start(asked)
    run.start(job("other", "inpaint", steps=9, seeds=(5,)))
    run.finish()
    close(run.pixels("owl"), stock(sd_inpaint_folder, asked))


def test_nine_channels_only_inpaint(inpainter: Checkpoint) -> None:
    assert inpainter.tasks == ("inpaint",)
    run = Run(inpainter)
    run.start(job("owl"))
    run.finish()
    assert run.events[-1].fault.kind == "bad_job"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "euler", "euler_ancestral", "dpmpp_2m"])
def test_previews_show_what_the_scheduler_predicts(
    model: Checkpoint, name: str, prediction_type: str
) -> None:
    kind, changes = sd.SCHEDULERS[name]
    config = model.pipe.scheduler.config
    scheduler = kind.from_config(config, **changes, prediction_type=prediction_type)
    scheduler.set_timesteps(10)
    sample, prediction = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = scheduler.timesteps[0]
    seen = scheduler.scale_model_input(sample, t)
    out = scheduler.step(prediction, t, sample)
    expected = scheduler.model_outputs[-1] if name == "dpmpp_2m" else out.pred_original_sample
    ours = denoised(scheduler, seen[0], prediction[0], t)
    assert torch.allclose(ours, expected[0], rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_previews_come_as_often_as_asked(model: Checkpoint) -> None:
    run = Run(model)
    run.start(job("owl", steps=7, preview_every=3))
    run.finish()
    steps = [event for event in run.events if isinstance(event, Step)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.step for event in steps if event.preview] == [3, 6]
    assert steps[2].preview is not None
    assert (steps[2].preview.width, steps[2].preview.height) == (SIZE // 8, SIZE // 8)


def test_masks_grow_to_whole_latents() -> None:
    mask = Pillow.frombytes("L", (16, 8), bytes(5) + b"\xff" + bytes(16 * 8 - 6))
    grown = np.asarray(whole_cells(mask, 8))
    assert (grown[:, :8] == 255).all()
    assert (grown[:, 8:] == 0).all()


def test_long_prompts_are_noted(model: Checkpoint) -> None:
    run = Run(model)
    run.start(job("owl", prompt="x" * 100, negative_prompt="y", guidance=1.0))
    run.finish()
    notes = run.events[-1].notes
    assert [note.split(":")[0] for note in notes] == ["prompt", "negative_prompt"]
