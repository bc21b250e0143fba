"""Every family's pixels equal the stock pipelines', alone, in company and beside the cancelled."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from models import families, tiles
from models.canvas import Call
from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Cancelled, Failed, Finished, Image, Job, ModelSpec, Step
from models.studio import Studio
from models.warmup import warm_up
from server.traits import traits

WIDTH, HEIGHT = 96, 64
SKETCH = Path(__file__).parents[2] / "models" / "demo" / "sketch"
FAMILY_OF = {
    "sd": "sd",
    "pix2pix": "sd",
    "sdxl": "sdxl",
    "sdxl_inpaint": "sdxl",
    "sd3": "sd3",
    "sd3_without_t5": "sd3",
    "flux": "flux",
    "flux_schnell": "flux",
    "flux_fill": "flux",
    "flux_kontext": "flux",
    "flux2": "flux2",
    "flux2_klein": "flux2",
    "flux2_klein_base": "flux2",
    "qwen_image": "qwen-image",
    "qwen_edit": "qwen-image",
    "qwen_edit_plus": "qwen-image",
    "z_image": "z-image",
}

# -- What each stock pipeline is told for the same wish, written from its documentation -----------

Said = dict[str, Any]


def cfg(job: Job) -> Said:
    return {"guidance_scale": job.guidance, "negative_prompt": job.negative_prompt}


def true_cfg(job: Job) -> Said:
    return {"true_cfg_scale": job.guidance, "negative_prompt": job.negative_prompt}


def embedded(job: Job) -> Said:
    return {"guidance_scale": job.guidance}


def less_one(job: Job) -> Said:
    return {"guidance_scale": job.guidance - 1, "negative_prompt": job.negative_prompt}


def sized(job: Job) -> Said:
    return {"width": job.width, "height": job.height}


def shown(job: Job) -> Said:
    return {"image": picture(1)}


def changed(job: Job) -> Said:
    return {"image": picture(1), "strength": job.strength}


def masked(job: Job) -> Said:
    return {"image": picture(1), "strength": job.strength, "mask_image": mask()}


def as_asked(job: Job) -> Said:
    """Kontext paints a size of its own unless it is told not to."""
    return {"max_area": job.width * job.height, "_auto_resize": False}


def briefly(job: Job) -> Said:
    return {"max_sequence_length": 256}


Way = tuple[str, Sequence[Callable[[Job], Said]]]
STOCK: dict[str, dict[str, Way]] = {
    "sd": {
        "generate": ("StableDiffusionPipeline", (cfg, sized)),
        "edit": ("StableDiffusionImg2ImgPipeline", (cfg, changed)),
        "inpaint": ("StableDiffusionInpaintPipeline", (cfg, sized, masked)),
    },
    "pix2pix": {
        "edit": ("StableDiffusionInstructPix2PixPipeline", (cfg, shown)),
        "inpaint": ("StableDiffusionInstructPix2PixPipeline", (cfg, shown)),
    },
    "sdxl": {
        "generate": ("StableDiffusionXLPipeline", (cfg, sized)),
        "edit": ("StableDiffusionXLImg2ImgPipeline", (cfg, changed)),
        "inpaint": ("StableDiffusionXLInpaintPipeline", (cfg, sized, masked)),
    },
    "sdxl_inpaint": {"inpaint": ("StableDiffusionXLInpaintPipeline", (cfg, sized, masked))},
    "sd3": {
        "generate": ("StableDiffusion3Pipeline", (cfg, sized)),
        "edit": ("StableDiffusion3Img2ImgPipeline", (cfg, sized, changed)),
        "inpaint": ("StableDiffusion3InpaintPipeline", (cfg, sized, masked)),
    },
    "sd3_without_t5": {"generate": ("StableDiffusion3Pipeline", (cfg, sized))},
    "flux": {
        "generate": ("FluxPipeline", (embedded, sized)),
        "edit": ("FluxImg2ImgPipeline", (embedded, sized, changed)),
        "inpaint": ("FluxInpaintPipeline", (embedded, sized, masked)),
    },
    "flux_schnell": {
        "generate": ("FluxPipeline", (true_cfg, sized, briefly)),
        "edit": ("FluxImg2ImgPipeline", (true_cfg, sized, changed, briefly)),
        "inpaint": ("FluxInpaintPipeline", (true_cfg, sized, masked, briefly)),
    },
    "flux_fill": {"inpaint": ("FluxFillPipeline", (embedded, sized, masked))},
    "flux_kontext": {
        "generate": ("FluxKontextPipeline", (embedded, sized, as_asked)),
        "edit": ("FluxKontextPipeline", (embedded, sized, shown, as_asked)),
        "inpaint": ("FluxKontextInpaintPipeline", (embedded, sized, masked, as_asked)),
    },
    "flux2": {
        "generate": ("Flux2Pipeline", (embedded, sized)),
        "edit": ("Flux2Pipeline", (embedded, sized, shown)),
        "inpaint": ("Flux2Pipeline", (embedded, sized, shown)),
    },
    "flux2_klein": {
        "generate": ("Flux2KleinPipeline", (embedded, sized)),
        "edit": ("Flux2KleinPipeline", (embedded, sized, shown)),
        "inpaint": ("Flux2KleinInpaintPipeline", (embedded, sized, masked)),
    },
    "flux2_klein_base": {"generate": ("Flux2KleinPipeline", (embedded, sized))},
    "qwen_image": {
        "generate": ("QwenImagePipeline", (true_cfg, sized)),
        "edit": ("QwenImageImg2ImgPipeline", (true_cfg, sized, changed)),
        "inpaint": ("QwenImageInpaintPipeline", (true_cfg, sized, masked)),
    },
    "qwen_edit": {"edit": ("QwenImageEditPipeline", (true_cfg, sized, shown))},
    "qwen_edit_plus": {"edit": ("QwenImageEditPlusPipeline", (true_cfg, sized, shown))},
    "z_image": {
        "generate": ("ZImagePipeline", (less_one, sized)),
        "edit": ("ZImageImg2ImgPipeline", (less_one, sized, changed)),
        "inpaint": ("ZImageInpaintPipeline", (less_one, sized, masked)),
    },
}
CASES = [(name, task) for name, tasks in STOCK.items() for task in tasks]


def job(name: str, task: str, **changes: object) -> Job:
    defaults: dict[str, object] = {
        "id": name,
        "model": "tiny",
        "task": task,
        "prompt": f"a {name}",
        "negative_prompt": "grey",
        "width": WIDTH,
        "height": HEIGHT,
        "steps": 4,
        "guidance": 4.0,
        "strength": 1.0 if task == "inpaint" else 0.8,
        "seeds": (7,),
        "inputs": 0 if task == "generate" else 1,
        "masked": task == "inpaint",
    }
    return Job(**(defaults | changes))


@cache
def picture(seed: int) -> Pillow.Image:
    rows = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Pillow.fromarray(rows).resize((WIDTH, HEIGHT), Pillow.Resampling.BICUBIC)


def mask() -> Pillow.Image:
    drawn = Pillow.new("L", (WIDTH, HEIGHT), 0)
    drawn.paste(255, (16, 16, 64, 48))
    return drawn


def raw(image: Pillow.Image) -> Image:
    return Image(image.width, image.height, image.mode, image.tobytes())


def stock(folder: Path, way: Way, asked: Job) -> np.ndarray:
    """What diffusers itself loads and paints: nothing of ours in it."""
    kind, says = way
    lacking = (
        {} if "sd3_without" not in folder.name else {"text_encoder_3": None, "tokenizer_3": None}
    )
    pipe = getattr(diffusers, kind).from_pretrained(folder, **lacking)
    pipe.set_progress_bar_config(disable=True)
    said: Said = {}
    for say in says:
        said |= say(asked)
    return np.asarray(
        pipe(
            prompt=asked.prompt,
            num_inference_steps=asked.steps,
            generator=torch.Generator("cpu").manual_seed(asked.seeds[0]),
            **said,
        ).images[0]
    )


class Run:
    """A studio, and what came out of it."""

    def __init__(self, model: Checkpoint) -> None:
        self.events: list[AnyEvent] = []
        self.studio = Studio(self.events.append)
        for kind in ("forward", "decode"):
            self.studio.cap("tiny", kind, 8)
        self._model = model

    def start(self, asked: Job, index: int = 0) -> None:
        inputs = [raw(picture(1))] if asked.inputs else []
        marked = raw(mask()) if asked.masked else None
        self.studio.start(self._model, asked, index, inputs, marked)

    def finish(self) -> int:
        ticks = 0
        while len(self.studio):
            self.studio.tick()
            ticks += 1
        return ticks

    def pixels(self, name: str) -> np.ndarray:
        (end,) = [e for e in self.events if isinstance(e, Finished | Failed) and e.job == name]
        assert isinstance(end, Finished), end
        return np.frombuffer(end.image.pixels, np.uint8).reshape(HEIGHT, WIDTH, 3)


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    @cache
    def load(name: str) -> Checkpoint:
        family, path = FAMILY_OF[name], str(folder_of(name))
        spec = ModelSpec(id="tiny", family=family, path=path, width=WIDTH, height=HEIGHT)
        model = families.loader(family)(spec, "cpu")
        assert isinstance(model, Checkpoint)
        return model

    return load


@pytest.fixture(autouse=True)
def small_condition_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen's edit pipelines look at their image with a million pixels, which takes seconds."""
    edit = diffusers.pipelines.qwenimage.pipeline_qwenimage_edit
    plus = diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus
    whole = edit.calculate_dimensions
    monkeypatch.setattr(edit, "calculate_dimensions", lambda area, ratio: whole(128 * 128, ratio))
    monkeypatch.setattr(plus, "VAE_IMAGE_SIZE", 128 * 128)
    monkeypatch.setattr(plus, "CONDITION_IMAGE_SIZE", 64 * 64)


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize(("name", "task"), CASES)
def test_alone_equals_the_stock_pipeline(
    model_of: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], name: str, task: str
) -> None:
    asked = job("owl", task)
    run = Run(model_of(name))
    run.start(asked)
    run.finish()
    close(run.pixels("owl"), stock(folder_of(name), STOCK[name][task], asked))


def company(name: str) -> list[Job]:
    """Two jobs of each task that differ in all but the length of their prompts."""
    return [
        job(word, task, steps=steps, guidance=guidance, seeds=(seed,))
        for task in STOCK[name]
        for word, steps, guidance, seed in (
            (f"owl-{task}", 4, 4.0, 7),
            (f"fox-{task}", 6, 2.5, 8),
        )
    ]


@pytest.mark.parametrize("name", list(STOCK))
def test_in_company_each_equals_the_stock_pipeline(
    model_of: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], name: str
) -> None:
    run = Run(model_of(name))
    jobs = company(name)
    leaving = job("cat", jobs[0].task, steps=9)
    for asked in (*jobs, leaving):
        run.start(asked)
    for _ in range(3):
        run.studio.tick()
    run.studio.cancel("cat", 0)
    run.finish()
    assert Cancelled("cat", 0) in run.events
    for asked in jobs:
        close(run.pixels(asked.id), stock(folder_of(name), STOCK[name][asked.task], asked))


@pytest.mark.parametrize("name", list(STOCK))
def test_strict_is_equal_to_the_bit_and_image_i_of_n_is_the_one_of_its_seed(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    model, task = model_of(name), model_of(name).tasks[0]
    asked = job("owl", task, strict=True, seeds=(3, 7), strength=1.0)
    run = Run(model)
    for stranger in company(name):
        run.start(stranger)
    run.start(asked, index=1)
    run.finish()
    single = msgspec.structs.replace(asked, seeds=(7,))
    assert (run.pixels("owl") == run_alone(model, single).pixels("owl")).all()


# Calls of the denoiser per step: guidance by a second prediction may be a call of its own.
CALLS = {"flux_schnell": 2, "flux2_klein_base": 2}
CALLS |= dict.fromkeys(("qwen_image", "qwen_edit", "qwen_edit_plus"), 2)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_forwards_are_shared(model_of: Callable[[str], Checkpoint], name: str, task: str) -> None:
    run = Run(model_of(name))
    jobs = [asked for asked in company(name) if asked.task == task]
    for asked in jobs:
        run.start(asked)
    steps = sum(len(steps_of(run_alone(model_of(name), asked), asked.id)) for asked in jobs)
    ticks = run.finish()
    longest = max(len(steps_of(run, asked.id)) for asked in jobs)
    assert ticks <= CALLS.get(name, 1) * longest + 2
    assert longest < steps


def run_alone(model: Checkpoint, asked: Job) -> Run:
    run = Run(model)
    run.start(asked)
    run.finish()
    return run


def steps_of(run: Run, name: str) -> list[Step]:
    return [event for event in run.events if isinstance(event, Step) and event.job == name]


@pytest.mark.parametrize(
    "name", ["sd", "sdxl", "sd3", "flux", "flux_schnell", "qwen_image", "z_image"]
)
def test_tasks_of_a_model_share_forwards(model_of: Callable[[str], Checkpoint], name: str) -> None:
    run = Run(model_of(name))
    jobs = [job("owl"[: 3 - i] + "x" * i, task) for i, task in enumerate(STOCK[name])]
    for asked in jobs:
        run.start(asked)
    ticks = run.finish()
    assert ticks <= CALLS.get(name, 1) * 4 + 2


class Sitter:
    """An easel that runs every call at once and looks at every step; it keeps what is decoded."""

    def __init__(self) -> None:
        self.decoded: list[torch.Tensor] = []
        self.told = torch.empty(0)
        self.previews: list[Image] = []

    def ask(self, call: Any) -> Any:
        if call.kind == "decode":
            self.decoded.append(call.arguments.arguments["z"])
        if call.kind == "forward":
            said = call.arguments.arguments
            self.told = (
                said["cap_feats"][0] if "cap_feats" in said else said["encoder_hidden_states"]
            )
        return call.run([call])[0]

    def step(self, done: int, of: int, preview: Callable[[], Image] | None = None) -> None:
        assert preview is not None
        self.previews.append(preview())

    def note(self, text: str) -> None:
        assert text.startswith("prompt: only the first"), text


@dataclass
class Keeper:
    """In place of the projection: keeps what it is to show."""

    projection: Any
    shown: list[torch.Tensor] = field(default_factory=list)

    def render(self, latents: torch.Tensor) -> Image:
        self.shown.append(latents)
        return self.projection.render(latents)


@pytest.mark.parametrize("name", list(STOCK))
def test_the_last_preview_shows_what_is_decoded(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    model = model_of(name)
    keeper, sitter = Keeper(model.projection), Sitter()
    watched = replace(model, projection=keeper)
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


@pytest.mark.parametrize("task", ["edit", "inpaint"])
@pytest.mark.parametrize("name", ["flux_kontext", "flux2", "flux2_klein", "qwen_edit_plus"])
def test_several_images_are_all_seen(
    model_of: Callable[[str], Checkpoint], name: str, task: str
) -> None:
    """Each further image changes the outcome of the models that take several."""
    outcomes = []
    portrait = picture(3).resize((64, 96))
    for others in ([], [picture(2)], [portrait], [picture(2), portrait]):
        images = [raw(image) for image in (picture(1), *others)]
        asked = job("owl", task, inputs=len(images), negative_prompt="", strength=1.0)
        marked = raw(mask()) if task == "inpaint" else None
        outcomes.append(model_of(name).paint(asked, 0, images, marked, Sitter()))
    assert len({image.pixels for image in outcomes}) == 4
    assert {(image.width, image.height) for image in outcomes} == {(WIDTH, HEIGHT)}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_portrait_beside_landscape(
    model_of: Callable[[str], Checkpoint], name: str, task: str
) -> None:
    """As many latents in another shape: what a network knows of places must not be shared."""
    model = model_of(name)
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    studio.cap("tiny", "forward", 8)
    alone: dict[str, Image] = {}
    for turned in (False, True):
        base, marked = picture(1), mask()
        if turned:
            base, marked = (each.transpose(Pillow.Transpose.ROTATE_90) for each in (base, marked))
        size = {"width": base.width, "height": base.height}
        asked = job(f"owl-{turned:d}", task, **size, negative_prompt="", strength=1.0)
        shown = [raw(base)] * asked.inputs, raw(marked) if asked.masked else None
        alone[asked.id] = model.paint(asked, 0, *shown, Sitter())
        studio.start(model, asked, 0, *shown)
    while len(studio):
        studio.tick()
    together = {event.job: event.image for event in events if isinstance(event, Finished)}
    for name_, image in alone.items():
        close(*(np.frombuffer(each.pixels, np.uint8) for each in (image, together[name_])))


def test_a_stroke_thinner_than_what_is_blended_is_repainted(
    model_of: Callable[[str], Checkpoint],
) -> None:
    """klein blends squares of 16 px: a mark of 8 px counts as the square that it lies in."""
    model, asked = model_of("flux2_klein"), job("owl", "inpaint", negative_prompt="")
    outcomes = []
    for side in (8, 16):
        drawn = Pillow.new("L", (WIDTH, HEIGHT), 0)
        drawn.paste(255, (32, 16, 32 + side, 16 + side))
        outcomes.append(model.paint(asked, 0, [raw(picture(1))], raw(drawn), Sitter()))
    assert outcomes[0] == outcomes[1]


TRUNCATING = [name for name in STOCK if not name.startswith("qwen_edit")]


@pytest.mark.parametrize("name", TRUNCATING)
def test_so_much_of_a_prompt_is_read_as_is_said(
    model_of: Callable[[str], Checkpoint], name: str
) -> None:
    model = model_of(name)
    text = "x" * (model.reading.room - model.reading.tokens("x") + 1)
    assert model.reading.tokens(text) == model.reading.room
    assert torch.equal(heard(model, text + "yy"), heard(model, text + "zz"))
    assert not torch.equal(heard(model, text[:-1] + "y"), heard(model, text[:-1] + "z"))


@pytest.mark.parametrize("name", ["qwen_edit", "qwen_edit_plus"])
def test_edit_models_read_all(model_of: Callable[[str], Checkpoint], name: str) -> None:
    text = "x" * 600
    assert not torch.equal(heard(model_of(name), text + "y"), heard(model_of(name), text + "z"))


def heard(model: Checkpoint, prompt: str) -> torch.Tensor:
    """What the denoiser is told of a prompt, by the encoder that reads most."""
    sitter = Sitter()
    task = model.tasks[0]
    asked = job("owl", task, prompt=prompt, guidance=1.0, steps=2, strength=1.0)
    shown = [raw(picture(1))] * asked.inputs, raw(mask()) if asked.masked else None
    model.paint(msgspec.structs.replace(asked, negative_prompt=""), 0, *shown, sitter)
    return sitter.told


def test_the_server_tells_folders_by_the_same_classes(tmp_path: Path) -> None:
    """What the server reads off a folder is what its family loads and can do."""
    for name in ("sd", "sdxl", "sd3", "flux", "flux2", "qwen-image", "z-image"):
        family = importlib.import_module(families.MODULES[name]).FAMILY
        for kind, pipelines in family.pipelines.items():
            (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
            found = traits(tmp_path)
            assert found["family"] == name, kind
            assert set(found["tasks"]) == set(pipelines), kind


@pytest.mark.parametrize("name", ["sd", "flux2_klein", "qwen_image"])
def test_a_decode_that_does_not_fit_is_done_in_tiles(
    model_of: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, asked = model_of(name), job("owl", "generate")
    whole = run_alone(model, asked).pixels("owl")
    vae = model.pipe.vae

    def full(*args: object, **kwargs: object) -> object:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(vae, "decode", full)
    run = run_alone(model, asked)
    close(run.pixels("owl"), whole)  # small enough for one tile
    (end,) = [event for event in run.events if isinstance(event, Finished)]
    assert "tiles" in end.notes[-1]
    monkeypatch.setattr(vae, "tiled_decode", full)
    (end,) = [event for event in run_alone(model, asked).events if isinstance(event, Failed)]
    assert end.fault.kind == "out_of_memory"


def test_a_vae_that_overflows_in_half_precision_stays_in_full(
    folder_of: Callable[[str], Path],
) -> None:
    """Stock pipelines switch the shared weights to and fro, under other canvases' feet."""
    spec = ModelSpec(
        id="tiny",
        family="sdxl",
        path=str(folder_of("sdxl")),
        dtype="float16",
        width=WIDTH,
        height=HEIGHT,
    )
    model = families.loader("sdxl")(spec, "cpu")
    assert isinstance(model, Checkpoint)
    run = Run(model)
    for asked in company("sdxl"):
        run.start(asked)
    while len(run.studio):
        run.studio.tick()
        assert model.pipe.vae.dtype == torch.float32
    for asked in company("sdxl"):
        assert run.pixels(asked.id).std() > 0


def test_a_picture_that_is_black_all_over_is_an_error(
    model_of: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("sd")
    whole = model.pipe.vae.decode

    def dark(z: torch.Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        return (torch.full_like(whole(z, return_dict=False)[0], -1.0),)

    monkeypatch.setattr(model.pipe.vae, "decode", dark)
    (end,) = [e for e in run_alone(model, job("owl", "generate")).events if isinstance(e, Failed)]
    assert end.fault.kind == "not_finite"
    black = Image(WIDTH, HEIGHT, "RGB", bytes(WIDTH * HEIGHT * 3))
    edit = job("owl", "edit", negative_prompt="")
    assert model.paint(edit, 0, [black], None, Sitter()) == black


def trained_vae(folder_of: Callable[[str], Path]) -> Any:
    """The shipped model's: to a random one a tile and a whole picture are different things."""
    return diffusers.AutoencoderKL.from_pretrained(SKETCH / "vae", torch_dtype=torch.float32)


def video_vae(folder_of: Callable[[str], Path]) -> Any:
    return diffusers.AutoencoderKLQwenImage.from_pretrained(folder_of("qwen_image") / "vae")


@pytest.mark.parametrize("load", [trained_vae, video_vae])
def test_many_tiles_make_about_the_same_picture(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, load: Callable[..., Any]
) -> None:
    monkeypatch.setattr(tiles, "TILE", 128)
    vae = load(folder_of)
    pixels = np.asarray(picture(1).resize((512, 512)), np.float32) / 127.5 - 1
    shown = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        z = vae.encode(shown[:, :, None] if load is video_vae else shown).latent_dist.mode()
        whole = vae.decode(z, return_dict=False)[0]
    (tiled,) = tiles.run_tiled([Call("tiles", None, tiles.run_tiled, (vae, z))])
    apart = (tiled[0] - whole).abs() * 127.5
    assert tiled[0].shape == whole.shape
    assert 0 < apart.mean() < 3  # of 255


@pytest.mark.parametrize("name", list(STOCK))
def test_every_family_passes_its_warm_up(
    model_of: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], name: str
) -> None:
    """Which a worker asks of every model before it serves it."""
    path = str(folder_of(name))
    spec = ModelSpec(
        id="tiny", family=FAMILY_OF[name], path=path, width=WIDTH, height=HEIGHT, max_batch=2
    )
    assert set(warm_up(model_of(name), spec)) == {"forward", "decode"}


def test_a_decode_that_never_fits_at_once_does_not_keep_a_model_from_loading(
    model_of: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("sd")

    def full(z: torch.Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(model.pipe.vae, "decode", full)
    spec = ModelSpec(id="tiny", family="sd", path="", width=WIDTH, height=HEIGHT)
    assert set(warm_up(model, spec)) == {"forward", "tiles"}


@pytest.mark.parametrize("how", ["text", "all"])
@pytest.mark.parametrize("name", ["sd", "sd3", "flux", "flux2_klein", "qwen_image", "z_image"])
def test_what_travels_paints_the_same(
    model_of: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], name: str, how: Any
) -> None:
    """On a CPU the way is short, but every layer goes it."""
    spec = ModelSpec(
        id="tiny",
        family=FAMILY_OF[name],
        path=str(folder_of(name)),
        offload=how,
        width=WIDTH,
        height=HEIGHT,
    )
    model = families.loader(FAMILY_OF[name])(spec, "cpu")
    assert isinstance(model, Checkpoint)
    part = model.pipe.unet if hasattr(model.pipe, "unet") else model.pipe.transformer
    assert travels(model.pipe.text_encoder)
    assert travels(part) == (how == "all")
    run, expected = Run(model), Run(model_of(name))
    for asked in company(name):
        run.start(asked)
        expected.start(asked)
    run.finish()
    expected.finish()
    for asked in company(name):
        assert (run.pixels(asked.id) == expected.pixels(asked.id)).all()


def travels(part: torch.nn.Module) -> bool:
    return any(
        registry.get_hook("group_offloading") is not None
        for module in part.modules()
        if (registry := getattr(module, "_diffusers_hook", None))
    )
