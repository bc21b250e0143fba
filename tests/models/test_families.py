"""Every family's pixels equal the stock pipelines', alone, in company and beside the cancelled."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import diffusers
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from models import families, onednn, tiles
from models.canvas import Call
from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Cancelled, Failed, Finished, Image, Job, ModelSpec, Step
from models.demo.drawing import draw
from models.demo.scenes import single
from models.studio import Studio
from models.warmup import warm_up
from server.library.traits import traits
from tests.models.sitter import Run, Sitter, close, load
from tests.models.stock import (
    CASES,
    FAMILY_OF,
    HEIGHT,
    STOCK,
    WIDTH,
    job,
    mask,
    picture,
    raw,
    stock,
)

SKETCH = Path(__file__).parents[2] / "models" / "demo" / "sketch"


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


@pytest.mark.parametrize(("name", "task"), CASES)
def test_nothing_of_a_picture_waits_for_the_collector(
    model_of: Callable[[str], Checkpoint], name: str, task: str
) -> None:
    run = Run(model_of(name))
    assert run.frees(job("owl", task, preview_every=1), Run.finish)
    assert run.frees(job("cat", task), Run.cancel)


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
    # A trained one is shown what it was made for: on anything else its norms count for more.
    seen = picture(1) if load is video_vae else draw(single(Random(1)))
    pixels = np.asarray(seen.resize((512, 512)), np.float32) / 127.5 - 1
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
    assert {cap.kind for cap in warm_up(model_of(name), spec)} == {"forward", "decode"}


def test_a_decode_that_never_fits_at_once_does_not_keep_a_model_from_loading(
    model_of: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("sd")

    def full(z: torch.Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(model.pipe.vae, "decode", full)
    spec = ModelSpec(id="tiny", family="sd", path="", width=WIDTH, height=HEIGHT)
    assert {cap.kind for cap in warm_up(model, spec)} == {"forward", "tiles"}


@pytest.mark.parametrize("how", ["text", "all"])
@pytest.mark.parametrize("name", ["sd", "sd3", "flux", "flux2_klein", "qwen_image", "z_image"])
def test_what_travels_paints_the_same(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str, how: Any
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
    if how == "all":  # layers whose weights move are run as torch has it
        monkeypatch.setattr(onednn, "usable", lambda: False)
    run, expected = Run(model), Run(load(name, folder_of(name)))
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
