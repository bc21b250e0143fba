"""Adapters: as strong as asked, for those who asked, and without a trace afterwards."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from models import families, lora
from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Failed, Finished, Job, LoraSpec, ModelSpec
from models.studio import Studio
from tests.models.sitter import Run

SIDE = 64
FAMILY_OF = {
    "sd": "sd",
    "sdxl": "sdxl",
    "sd3": "sd3",
    "flux": "flux",
    "flux2_klein": "flux2",
    "qwen_image": "qwen-image",
    "z_image": "z-image",
}


def trained(folder: Path, kind: type[Any], seed: int, path: Path) -> None:
    """A random adapter of a checkpoint's denoiser, as diffusers saves them."""
    pipe = kind.from_pretrained(folder)
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
    getattr(pipe, part).add_adapter(config)
    weights = get_peft_model_state_dict(getattr(pipe, part))
    weights = {name: 3 * value for name, value in weights.items()}
    kind.save_lora_weights(path.parent, weight_name=path.name, **{f"{part}_lora_layers": weights})


@pytest.fixture(scope="session")
def dressed(
    folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Checkpoint]:
    """A checkpoint with the adapters "a" and "b"."""

    @cache
    def load(name: str) -> Checkpoint:
        folder, files = folder_of(name), tmp_path_factory.mktemp(f"loras-{name}")
        kind = diffusers.DiffusionPipeline.from_pretrained(folder).__class__
        specs = []
        for seed, letter in enumerate("ab"):
            trained(folder, kind, seed, files / f"{letter}.safetensors")
            specs.append(LoraSpec(letter, str(files / f"{letter}.safetensors")))
        spec = ModelSpec(
            id="tiny",
            family=FAMILY_OF[name],
            path=str(folder),
            width=SIDE,
            height=SIDE,
            loras=tuple(specs),
        )
        model = families.loader(FAMILY_OF[name])(spec, "cpu")
        assert isinstance(model, Checkpoint)
        return model

    return load


def job(name: str, *worn: tuple[str, float], **changes: object) -> Job:
    defaults: dict[str, object] = {
        "id": name,
        "model": "tiny",
        "task": "generate",
        "prompt": f"an {name}",
        "width": SIDE,
        "height": SIDE,
        "steps": 3,
        "guidance": 1.0,
        "seeds": (7,),
        "loras": worn,
    }
    return Job(**(defaults | changes))


def run(model: Checkpoint, *jobs: Job) -> tuple[dict[str, np.ndarray], int]:
    """The pictures of jobs painted together, and in how many ticks."""
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    for kind in ("forward", "decode"):
        studio.cap("tiny", kind, 8)
    for asked in jobs:
        studio.start(model, asked, 0, [], None)
    ticks = 0
    while len(studio):
        studio.tick()
        ticks += 1
    assert not [event for event in events if isinstance(event, Failed)], events
    images = {event.job: event.image for event in events if isinstance(event, Finished)}
    return {name: np.frombuffer(image.pixels, np.uint8) for name, image in images.items()}, ticks


def weights(model: Checkpoint) -> dict[str, torch.Tensor]:
    parts = {n: p for n, p in model.pipe.components.items() if isinstance(p, torch.nn.Module)}
    return {
        f"{part}.{name.replace('.base_layer', '')}": value.clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
        if "lora_" not in name
    }


def stock(model: Checkpoint, asked: Job) -> np.ndarray:
    """What diffusers itself makes of the same adapters."""
    pipe = type(model.pipe).from_pretrained(model.pipe.config._name_or_path)
    pipe.set_progress_bar_config(disable=True)
    for name, _ in asked.loras:
        path = model.loras.files[name]
        pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
    if asked.loras:
        names, strengths = zip(*asked.loras, strict=True)
        pipe.set_adapters(list(names), list(strengths))
    guidance = 0.0 if "ZImage" in type(pipe).__name__ else 1.0
    said = (
        {"true_cfg_scale": 1.0} if "Qwen" in type(pipe).__name__ else {"guidance_scale": guidance}
    )
    return np.asarray(
        pipe(
            prompt=asked.prompt,
            width=SIDE,
            height=SIDE,
            num_inference_steps=asked.steps,
            generator=torch.Generator("cpu").manual_seed(asked.seeds[0]),
            **said,
        ).images[0]
    ).reshape(-1)


SETS = ((), (("a", 1.0),), (("a", 0.5),), (("b", 0.7), ("a", 0.3)))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # by the stock pipelines
@pytest.mark.parametrize("name", list(FAMILY_OF))
def test_each_wears_its_own_and_nothing_is_left(
    dressed: Callable[[str], Checkpoint], name: str
) -> None:
    model = dressed(name)
    before = weights(model)
    (bare, _) = run(model, job("owl"))
    jobs = [job(f"owl{i}", *worn, prompt="an owl") for i, worn in enumerate(SETS)]
    pictures, _ = run(model, *jobs)
    for asked in jobs:
        expected = stock(model, asked)
        assert np.abs(pictures[asked.id].astype(int) - expected.astype(int)).max() <= 1
    assert len({pictures[asked.id].tobytes() for asked in jobs}) == len(SETS)
    after, _ = run(model, job("owl"))
    assert (after["owl"] == bare["owl"]).all()
    now = weights(model)
    assert before.keys() == now.keys()
    assert all(torch.equal(before[key], now[key]) for key in before)
    for end in (Run.finish, Run.cancel):
        assert Run(model).frees(job("owl", ("a", 1.0)), end)


def test_those_who_wear_the_same_share_forwards(dressed: Callable[[str], Checkpoint]) -> None:
    model = dressed("sd")
    same = [job(f"owl{i}", ("a", 0.5), seeds=(i,)) for i in range(4)]
    assert run(model, *same)[1] == 3 + 1
    other = [job(f"fox{i}", ("a", 0.1 * i), seeds=(i,)) for i in range(1, 5)]
    assert run(model, *other)[1] >= 4 * 3 + 1


def kohya(path: Path, out: Path) -> None:
    """The same adapter under the names of kohya's scripts."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in load_file(path).items():
        stem, _, rest = name.removeprefix("unet.").partition(".lora_")
        stem = "lora_unet_" + stem.replace(".", "_")
        renamed[f"{stem}.lora_{'down' if rest[0] == 'A' else 'up'}.weight"] = value
        renamed[f"{stem}.alpha"] = torch.tensor(4.0)
    save_file(renamed, out)


def fresh(folder: Path, *specs: LoraSpec) -> Checkpoint:
    spec = ModelSpec(id="tiny", family="sd", path=str(folder), width=SIDE, height=SIDE, loras=specs)
    model = families.loader("sd")(spec, "cpu")
    assert isinstance(model, Checkpoint)
    return model


def test_kohyas_files_are_read(
    dressed: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    theirs = tmp_path / "kohya.safetensors"
    kohya(dressed("sd").loras.files["a"], theirs)
    model = fresh(folder_of("sd"), LoraSpec("k", str(theirs)))
    ours, _ = run(dressed("sd"), job("owl", ("a", 0.8)))
    others, _ = run(model, job("owl", ("k", 0.8)))
    assert np.abs(ours["owl"].astype(int) - others["owl"].astype(int)).max() <= 1


def test_what_does_not_fit_is_told(
    dressed: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 100)
    foreign = dressed("flux").loras.files["a"]
    own = dressed("sd").loras.files["a"]
    specs = {"broken": broken, "foreign": foreign, "gone": tmp_path / "gone.safetensors", "a": own}
    model = fresh(folder_of("sd"), *(LoraSpec(name, str(path)) for name, path in specs.items()))
    bare, _ = run(model, job("owl"))
    for name in ("broken", "foreign", "gone", "unknown"):
        events: list[AnyEvent] = []
        studio = Studio(events.append)
        studio.start(model, job("owl", (name, 1.0)), 0, [], None)
        (event,) = events
        assert isinstance(event, Failed)
        assert event.fault.kind == ("bad_job" if name == "unknown" else "load_failed")
        assert name in event.fault.detail
    assert (run(model, job("owl"))[0]["owl"] == bare["owl"]).all()
    assert (run(model, job("owl", ("a", 1.0)))[0]["owl"] != bare["owl"]).any()


def test_only_so_many_stay_attached(
    dressed: Callable[[str], Checkpoint], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    own = str(dressed("sd").loras.files["a"])
    specs = [LoraSpec(f"n{number}", own) for number in range(lora.MOST + 3)]
    model = fresh(folder_of("sd"), *specs)
    for spec in [*specs, specs[0]]:
        pictures, _ = run(model, job("owl", (spec.name, 1.0)))
        assert len(model.loras.attached) <= lora.MOST
    expected, _ = run(dressed("sd"), job("owl", ("a", 1.0)))
    assert (pictures["owl"] == expected["owl"]).all()
