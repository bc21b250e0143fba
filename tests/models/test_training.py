"""The training of the demo models, in small: batches, resuming, folders that load and paint."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from models.checkpoint import Family
from models.contract import AnyEvent, Finished, Job, ModelSpec
from models.demo.batches import captioned, phase_at, spread, tokenized
from models.demo.denoiser import TIMES, Denoiser, times_of, unet_loss
from models.demo.export import export, flow_pipeline, pipeline
from models.demo.flow import FlowDenoiser, flow_loss
from models.demo.latents import Latents, cached, coarse, training_scene
from models.demo.loop import Stage, train
from models.demo.muon import optimizers, orthogonal
from models.demo.recipe import (
    ALL_ROUND,
    EVERYTHING,
    POOLS,
    SHAPES_ONLY,
    SINGLES,
    WHOLE,
    FlowRecipe,
    Phase,
    Pool,
    UnetRecipe,
    VaeRecipe,
)
from models.demo.scenes import FRAMES, KINDS, PALETTE, SQUARE, WIDE
from models.demo.vae import new_vae, posterior_of, vae_batch, vae_loss
from models.families import flux, sd
from models.studio import Studio

CPU = torch.device("cpu")


def blank(each: int = 8) -> Latents:
    """Pools of latents that hold nothing."""
    return Latents(
        {
            (kind, frame): torch.zeros(each, 4, frame[1] // 8, frame[0] // 8)
            for kind, frame in POOLS
        },
        1.0,
    )


# --- batches ----------------------------------------------------------------------------------


def test_a_batch_is_of_one_frame_and_of_the_kinds_of_its_phase() -> None:
    phase = Phase(1, (0.0, 0.0, 1.0, 0.0, 0.0), square=0.5, explicit=1.0, batch=9)
    sizes = {frame: (9 if frame == SQUARE else 6) for frame in FRAMES}
    seen = set()
    for seed in range(30):
        batch = captioned(phase, blank(), Random(seed))
        frame = batch.latents.shape[-1] * 8, batch.latents.shape[-2] * 8
        seen.add(frame)
        assert len(batch.latents) == len(batch.captions) == sizes[frame]
        said = [text.split() for text in batch.captions]
        assert all({"two", "three"} & set(words) for words in said if len(words) > 2)
    assert seen == set(FRAMES)


def test_curricula_begin_with_single_things_and_end_with_all_that_is_promised() -> None:
    first = phase_at(UnetRecipe().phases, 0).mix, phase_at(FlowRecipe().phases, 0).mix
    assert first == (SHAPES_ONLY, SINGLES)
    last = phase_at(UnetRecipe().phases, 10**9).mix, phase_at(FlowRecipe().phases, 10**9).mix
    assert last == (ALL_ROUND, WHOLE)
    assert all(mix[KINDS.index("land")] >= 0.2 for mix in last)
    for mix in last:
        assert sum(mix) == pytest.approx(1)
        assert sum(mix[:2]) > 0.38  # singles are kept to the end


def test_no_two_pools_share_a_scene() -> None:
    scenes = [training_scene(pool, index) for pool in POOLS for index in range(20)]
    assert len(set(scenes)) == len(scenes)


def test_latents_are_kept_in_their_file_and_made_only_once(tmp_path: Path) -> None:
    pools = {("thing", SQUARE): 3, ("land", WIDE): 2}
    first = cached(tmp_path / "latents.pt", new_vae(1), CPU, pools)
    assert first.pools["land", WIDE].shape == (2, 4, 16, 24)
    everything = torch.cat([part.flatten() for part in first.pools.values()]).float()
    assert float((everything * first.scale).std()) == pytest.approx(1, abs=0.01)
    again = cached(tmp_path / "latents.pt", new_vae(2), CPU, pools)
    assert again.scale == first.scale
    assert all(torch.equal(again.pools[pool], first.pools[pool]) for pool in pools)


def test_coarse_scenes_are_colours_of_blocks_and_where_things_are() -> None:
    pool = ("geometric", SQUARE)
    blocks = coarse({pool: 3})
    values = blocks.pools[pool]
    assert values.shape == (3, 4, 16, 16)
    assert float((values * blocks.scale).std()) == pytest.approx(1, abs=0.01)
    for index in range(3):
        thing = training_scene(pool, index).things[0]
        places = values[index, 3] - values[index, 3].min()
        covered = float((places / places.max()).mean()) * 128**2  # pixels
        assert 0.15 < covered / thing.diameter**2 < 1.1
        corner = values[index, :3, 0, 0] * 127.5 + 127.5
        assert float((corner - torch.tensor(background_of(pool, index))).abs().max()) < 1


def background_of(pool: Pool, index: int) -> tuple[int, int, int]:
    return PALETTE[training_scene(pool, index).background]


def test_a_coarse_phase_shows_blocks_and_another_one_latents() -> None:
    denoiser = Denoiser(1)
    phases = tuple(
        Phase(1, SHAPES_ONLY, 1.0, 1.0, batch=4, coarse=blunt) for blunt in (True, False)
    )
    latents = blank()
    blocks = Latents({pool: torch.ones_like(part) for pool, part in latents.pools.items()}, 1.0)
    loss = unet_loss(denoiser, UnetRecipe(phases=phases), latents, CPU, blocks)
    coarse_loss, fine_loss = loss(0).item(), loss(1).item()  # of a network that says zero
    assert coarse_loss == pytest.approx(1, abs=0.1)
    assert fine_loss < 0.6


# --- the parts of the training ----------------------------------------------------------------


def test_an_autoencoder_pays_for_a_channel_that_it_does_not_use() -> None:
    recipe, vae = VaeRecipe(), new_vae(1)
    pictures = vae_batch(recipe, 0)
    with torch.no_grad():
        alive = vae_loss(vae, recipe, 0, pictures)
        vae.encoder.conv_out.weight[3] *= 1e-3
        dead = vae_loss(vae, recipe, 0, pictures)
    assert float(dead - alive) > recipe.unit


def test_the_untrained_autoencoder_gives_back_colours() -> None:
    vae, picture = new_vae(1), torch.zeros(1, 3, 64, 64)
    picture[:, 0], picture[:, 2] = 0.6, -0.4
    with torch.no_grad():
        back = vae.decode(posterior_of(vae, picture).mean).sample
    assert float((back - picture)[..., 16:48, 16:48].abs().mean()) < 0.3


def test_muon_makes_all_directions_about_equally_strong() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 32, 16) @ torch.diag(torch.logspace(0, -2, 16))
    strengths = torch.linalg.svdvals(orthogonal(matrices))
    assert 0.3 < float(strengths.min()) <= float(strengths.max()) < 1.4


def test_one_time_in_so_many_is_drawn_evenly_and_the_others_mostly_from_the_middle() -> None:
    evenly = spread(64, torch.Generator().manual_seed(0))
    assert torch.equal(times_of(evenly, 1), (evenly * TIMES).long())
    times = times_of(evenly, 4)
    assert torch.equal(times[::4], (evenly[::4] * TIMES).long())
    among = float(((times > 0.25 * TIMES) & (times < 0.75 * TIMES)).float().mean())
    assert 0.6 < among < 0.8


def test_attention_written_out_gives_the_numbers_of_the_stock_one() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(1)
    nn.init.normal_(denoiser.unet.conv_out.weight)
    tokens = tokenized(denoiser.tokenizer, ["a red circle", "hills by day"])
    given = torch.randn(2, 4, 16, 24), torch.tensor([5, 900]), tokens
    with torch.no_grad():
        plain = denoiser(*given)
        denoiser.unet.set_attn_processor(AttnProcessor2_0())
        denoiser.text.set_attn_implementation("sdpa")
        stock = denoiser(*given)
    assert torch.allclose(plain, stock, rtol=1e-4, atol=1e-4 * float(stock.abs().max()))


@pytest.fixture
def signals() -> Iterator[None]:
    """Gives back the handlers that a training run takes over."""
    numbers = signal.SIGTERM, signal.SIGINT
    kept = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, kept, strict=True):
        signal.signal(number, handler)


def small_stage(halt_at: int = -1) -> Stage:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))

    def loss(step: int) -> torch.Tensor:
        if step == halt_at:
            signal.raise_signal(signal.SIGTERM)
        dice = torch.Generator().manual_seed(step)
        return (model(torch.randn(8, 6, generator=dice)) - 1).square().mean()

    return Stage("small", model, loss, optimizers(model, 0.01), 8, 2, ema=0.9)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(signals: None, tmp_path: Path) -> None:
    whole = train(small_stage(), tmp_path, resume=False)
    with pytest.raises(SystemExit, match="saved at step 4"):
        train(small_stage(halt_at=3), tmp_path, resume=False)
    resumed = train(small_stage(), tmp_path, resume=True)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


# --- whole models -----------------------------------------------------------------------------


def learned(model: nn.Module, loss: Callable[[int], torch.Tensor], steps: int) -> list[float]:
    movers, losses = optimizers(model, 0.01), []
    for _ in range(steps):
        value = loss(0)  # the same batch again and again
        value.backward()
        for mover in movers:
            mover.step()
        model.zero_grad()
        losses.append(value.item())
    return losses


Made = tuple[str, Path]


@pytest.fixture(scope="module", params=["sd", "flux"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A folder of either class after a few steps on one batch; the steps must have taught it."""
    folder = tmp_path_factory.mktemp("made") / request.param
    phase = (Phase(1, EVERYTHING, square=1.0, explicit=1.0, batch=6),)
    torch.manual_seed(5)
    latents = Latents({pool: torch.randn_like(part) for pool, part in blank().pools.items()}, 1.0)
    if request.param == "sd":
        model = Denoiser(1)
        loss = unet_loss(model, replace(UnetRecipe(), phases=phase), latents, CPU)
        whole = pipeline(new_vae(1), model)
    else:
        model = FlowDenoiser(1)
        loss = flow_loss(model, replace(FlowRecipe(), phases=phase), latents, CPU)
        whole = flow_pipeline(new_vae(1), model)
    losses = learned(model, loss, 8)
    assert losses[-1] < 0.97 * losses[0]
    export(whole, folder)
    return request.param, folder


def job(number: int, prompt: str, guidance: float, negative: str = "") -> Job:
    return Job(
        id=str(number),
        model="made",
        task="generate",
        prompt=prompt,
        negative_prompt=negative,
        width=WIDE[0],
        height=WIDE[1],
        steps=3,
        guidance=guidance,
        seeds=(7,),
    )


def painted(family: Family, folder: Path, jobs: list[Job]) -> list[np.ndarray]:
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    kind = "sd" if family is sd.FAMILY else "flux"
    model = family.load(
        ModelSpec(id="made", family=kind, path=str(folder), width=128, height=128), "cpu"
    )
    for one in jobs:
        studio.start(model, one, 0, [], None)
    while len(studio):
        studio.tick()
    done = {event.job: event.image for event in events if isinstance(event, Finished)}
    return [np.frombuffer(done[one.id].pixels, np.uint8) for one in jobs]


def test_a_trained_folder_is_small_and_limner_paints_from_it(made: Made) -> None:
    name, folder = made
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= {"sd": 12e6, "flux": 6e6}[name]
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    family = {"sd": sd.FAMILY, "flux": flux.FAMILY}[name]
    prompt = "a red cat on a blue background"
    plain, guided, negated, other = painted(
        family,
        folder,
        [
            job(1, prompt, 1.0),
            job(2, prompt, 4.0),
            job(3, prompt, 4.0, "red"),
            job(4, "a tree", 4.0),
        ],
    )
    assert plain.size == WIDE[0] * WIDE[1] * 3
    assert (plain != guided).any()  # so guidance acts
    assert (guided != negated).any()  # and so does a negative prompt
    assert (guided != other).any()


@pytest.mark.parametrize("made", ["flux"], indirect=True)
def test_both_tokenizers_of_a_flux_folder_read_alike(made: Made) -> None:
    pipe = FluxPipeline.from_pretrained(made[1])
    texts = ["a RED circle", "a zebra in a café", ""]
    known = tokenized(pipe.tokenizer, texts)
    second = pipe.tokenizer_2(texts, padding="max_length", max_length=32, return_tensors="pt")
    assert torch.equal(second.input_ids, known)
    assert torch.equal(tokenized(FlowDenoiser(1).tokenizer, texts), known)
