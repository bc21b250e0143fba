"""From Draft to Order: an example for each rule, and properties over any Draft at all."""

import itertools
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.contract import Job
from server.errors import (
    BadMask,
    BadRequest,
    ImageTooLarge,
    ImageTooSmall,
    Refusal,
    UnknownModel,
    Unprocessable,
)
from server.jobs.catalog import Catalog
from server.jobs.intake import SEEDS, Draft, Notice, Order, resolve
from server.settings.config import load
from server.settings.tables import Config, LimitsTable
from server.sizes import InputLimits, Size

LIMITS = LimitsTable()
DEMO = Catalog.of(load(Path(__file__).parents[3] / "configs/demo.toml"))
TWO = Catalog.of(
    Config.model_validate(
        {
            "model": [
                {
                    "id": "able",
                    "family": "toy",
                    "native": ["64x64"],
                    "max_inputs": 3,
                    "steps": 4,
                    "quality": {"low": 2, "medium": 4, "high": 9},
                },
                {
                    "id": "plain",
                    "family": "toy",
                    "native": ["64x64"],
                    "tasks": ["generate"],
                    "negative_prompt": False,
                    "prompt_chars": 10,
                },
            ],
            "style": [{"name": "Ink Wash", "prompt": "ink, {prompt}", "negative_prompt": "colour"}],
        }
    )
)
BASE = Size(64, 64)


def order(catalog=TWO, inputs=(), mask=None, drawn=77, limits=LIMITS, **draft) -> Order:
    fields = {"dialect": "aimo", "task": "generate", "model": "able", "prompt": "a cat"}
    return resolve(
        Draft(**fields | draft),
        catalog,
        limits,
        inputs=inputs,
        mask=mask,
        draw_seed=lambda: drawn,
        new_id=lambda: "job-1",
        preview_steps=4,
    )


def said(order: Order) -> dict[str, str]:
    return {notice.param: notice.message for notice in order.notices}


def refused(kind=BadRequest, **draft) -> Refusal:
    with pytest.raises(kind) as caught:
        order(**draft)
    assert type(caught.value) is kind
    return caught.value


def test_a_bare_request_takes_every_default():
    assert order(catalog=DEMO, model="dall-e-3", prompt="a red circle").job == Job(
        id="job-1",
        model="sketch",
        task="generate",
        prompt="a red circle",
        width=128,
        height=128,
        steps=12,
        guidance=4.0,
        seeds=(77,),
        enlarge=True,  # it is delivered at 512x512
    )


def test_what_is_asked_within_the_ranges_is_done_without_a_word():
    asked = order(
        width=64, height=64, steps=7, guidance=2.5, seed=5, negative_prompt="dog", strict=True
    )
    job = asked.job
    assert (job.steps, job.guidance, job.seeds, job.negative_prompt) == (7, 2.5, (5,), "dog")
    assert job.strict
    assert asked.notices == ()
    assert asked.output == Size(64, 64)


def test_what_the_dialect_ignored_comes_first():
    ignored = Notice("watermark", "not built yet")
    assert order(ignored=(ignored,), steps=500).notices[0] == ignored


# -- Tasks, inputs, masks -------------------------------------------------------------------------


def test_an_edit_without_a_mask_starts_from_its_image():
    job = order(task="edit", inputs=[BASE]).job
    assert (job.task, job.strength, job.inputs, job.masked) == ("edit", 0.6, 1, False)


def test_an_edit_with_a_mask_repaints():
    job = order(task="edit", inputs=[BASE], mask=BASE).job
    assert (job.task, job.strength, job.inputs, job.masked) == ("inpaint", 1.0, 1, True)


def test_an_edit_is_answered_at_the_size_of_its_image():
    assert order(task="edit", inputs=[Size(80, 96)]).output == Size(80, 96)


def test_surplus_images_are_named():
    asked = order(task="edit", inputs=[BASE] * 5)
    assert asked.job.inputs == 3
    assert said(asked)["images"] == "images 4 to 5 of 5 not used: able takes 3"
    assert said(order(task="edit", inputs=[BASE] * 4))["images"].startswith("image 4 of 4 not")


def test_images_are_not_used_to_generate():
    asked = order(inputs=[Size(80, 80)])
    assert (asked.job.task, asked.job.inputs, asked.output) == ("generate", 0, Size(64, 64))
    assert "images" in said(asked)


def test_a_mask_of_another_size_is_refused_with_both():
    refusal = refused(BadMask, task="edit", inputs=[Size(80, 90)], mask=BASE)
    assert "64x64" in refusal.message
    assert "80x90" in refusal.message
    assert refusal.param == "mask"
    refused(BadMask, task="edit", inputs=[Size(64, 80)], mask=Size(80, 64))


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (Size(256, 256), None),
        (Size(64, 1024), None),
        (Size(63, 4096), ImageTooSmall),
        (Size(256, 255), ImageTooSmall),
        (Size(7680, 4320), None),
        (Size(7680, 4321), ImageTooLarge),
    ],
)
def test_a_dialects_limits_hold_for_every_image(size, kind):
    bounds = InputLimits(min_side=64, min_pixels=65_536, max_pixels=7680 * 4320)
    wish = {"task": "edit", "inputs": (Size(512, 512), size)}
    assert order(**wish).job.inputs == 2
    if kind is None:
        assert order(**wish, input_limits=bounds).job.inputs == 2
        return
    with pytest.raises(kind, match=rf"images\[1\]: the image is {size}; ") as caught:
        order(**wish, input_limits=bounds)
    assert caught.value.param == "images[1]"


def test_a_mask_or_an_edit_without_images():
    assert refused(mask=BASE).param == "mask"
    assert refused(task="edit", mask=BASE).param == "mask"
    assert refused(task="edit").param == "images"


def test_a_task_the_model_cannot_do_names_one_that_can():
    refusal = refused(Unprocessable, model="plain", task="edit", inputs=[BASE])
    assert refusal.message == "plain does not edit; these do: able"


def test_an_unknown_model():
    assert "able, plain" in refused(UnknownModel, model="x").message


# -- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked", "used", "parts"),
    [
        ("steps", 500, 100, ["500", "used 100", "1 to 100"]),
        ("steps", 0, 1, ["asked for 0", "used 1"]),
        ("steps", -(10**400), 1, ["used 1"]),
        ("guidance", 45.5, 30.0, ["45.5", "used 30", "0 to 30"]),
        ("guidance", math.inf, 30.0, ["used 30"]),
        ("guidance", -1, 0.0, ["used 0"]),
    ],
)
def test_outside_the_models_range_the_nearest_is_used_and_said(name, asked, used, parts):
    settled = order(**{name: asked})
    assert getattr(settled.job, name) == used
    assert all(part in said(settled)[name] for part in parts), said(settled)


def test_not_a_number_is_refused():
    assert refused(guidance=math.nan).param == "guidance"


def test_quality_is_a_number_of_steps():
    assert [order(quality=each).job.steps for each in ("low", "medium", "high")] == [2, 4, 9]
    assert [DEMO.find("sketch").quality[each] for each in ("low", "medium", "high")] == [6, 12, 24]


def test_steps_beat_quality_and_say_so():
    settled = order(quality="high", steps=3)
    assert settled.job.steps == 3
    assert "quality" in said(settled)


def test_strength():
    edit = {"task": "edit", "inputs": [BASE]}
    assert order(**edit, strength=0.3).job.strength == 0.3
    assert order(**edit, mask=BASE, strength=0.5).job.strength == 0.5
    settled = order(**edit, strength=0.01, steps=10)
    assert settled.job.strength == 0.1
    assert "0.1 to 1" in said(settled)["strength"]
    assert "strength" in said(order(strength=0.5))
    assert order(**edit, steps=1).job.strength == 1.0


@pytest.mark.parametrize("asked", [None, 0.0])
def test_the_least_strength_leaves_a_step(asked):
    for steps in range(1, 101):
        job = order(task="edit", inputs=[BASE], steps=steps, strength=asked).job
        assert int(job.steps * job.strength) >= 1
        assert 0 < job.strength <= 1


def test_previews_only_for_those_who_listen():
    assert order(preview=True).job.preview_every == 4
    assert order().job.preview_every == 0


# -- Seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [
        (None, (77, 78, 79)),
        (-1, (77, 78, 79)),
        (0, (0, 1, 2)),
        (SEEDS - 2, (SEEDS - 2, SEEDS - 1, 0)),
    ],
)
def test_seeds_count_up_and_wrap(seed, seeds):
    assert order(seed=seed, n=3).job.seeds == seeds


@given(st.integers(), st.integers(1, 4))
@example(999, 4)
def test_drawn_seeds_stay_below_what_a_dialect_may_ask_for(drawn, n):
    seeds = order(seed=-1, n=n, drawn=drawn, seeds_below=1000).job.seeds
    assert seeds == tuple(range(seeds[0], seeds[0] + n))
    assert 0 <= seeds[0] <= seeds[-1] < 1000


@pytest.mark.parametrize("seed", [-2, SEEDS, 10**400])
def test_a_seed_outside_its_range(seed):
    assert refused(seed=seed).param == "seed"


@pytest.mark.parametrize("n", [0, -1, 257, 10**400])
def test_a_number_of_images_that_never_fits(n):
    assert refused(n=n).param == "n"


@given(st.integers(-1, SEEDS - 1), st.integers(1, 256), st.integers())
def test_seeds_are_distinct_and_in_range(seed, n, drawn):
    seeds = order(seed=seed, n=n, drawn=drawn).job.seeds
    assert len({*seeds}) == len(seeds) == n
    assert all(0 <= each < SEEDS for each in seeds)
    assert seed == -1 or seeds[0] == seed


@given(st.integers(0, SEEDS - 1), st.integers(1, 10))
def test_image_i_of_n_is_the_single_image_of_its_seed(seed, n):
    many = order(seed=seed, n=n)
    for own in many.job.seeds:
        assert order(seed=own).job == msgspec.structs.replace(many.job, seeds=(own,))


# -- Words ----------------------------------------------------------------------------------------


def words(**draft):
    job = order(**draft).job
    return job.prompt, job.negative_prompt


def test_styles():
    assert words(style_preset="ink-wash") == ("ink, a cat", "colour")
    assert words(style="INK WASH", negative_prompt="dog") == ("ink, a cat", "dog, colour")
    assert words(style="loose and wild") == ("a cat, loose and wild style", "")
    assert words(style="  ") == ("a cat", "")
    assert words(style="ink wash", style_preset="Ink Wash") == ("ink, a cat", "colour")
    assert words(style="wild", style_preset="Ink Wash")[0] == "ink, a cat, wild style"


def test_an_unknown_preset_is_refused():
    refusal = refused(style_preset="oils")
    assert refusal.param == "style_preset"
    assert "Ink Wash" in refusal.message


def test_a_style_of_marks_does_not_multiply_the_prompt():
    prompt, _ = words(prompt="x" * 10_000, style="{prompt}" * 1000)
    assert len(prompt) < 20_000


def test_a_negative_prompt_for_a_model_without_one():
    settled = order(model="plain", negative_prompt="dog", style_preset="ink wash")
    assert settled.job.negative_prompt == ""
    assert "plain" in said(settled)["negative_prompt"]
    assert "negative_prompt" not in said(order(model="plain", style_preset="ink wash"))


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "style"])
def test_words_over_the_limit_or_not_unicode(name):
    refusal = refused(**{name: "x" * 32769})
    assert refusal.param == name
    assert "32768" in refusal.message
    assert refused(**{name: "a\ud800b"}).param == name
    assert order(**{name: "x" * 32768})


def test_the_models_own_limit():
    assert "at most 10" in refused(model="plain", prompt="x" * 11).message


# -- Any draft at all -----------------------------------------------------------------------------

text = st.text(st.characters(), max_size=12)  # lone surrogates among them
number = st.integers() | st.integers(-2, 2000)
names = st.sampled_from(["sketch", "DALL-E-3", "able", "plain", "x"]) | text
drafts = st.builds(
    Draft,
    dialect=st.just("aimo"),
    task=st.sampled_from(["generate", "edit"]),
    model=names,
    prompt=text,
    negative_prompt=text,
    n=st.integers(-1, 300),
    width=st.none() | number,
    height=st.none() | number,
    aspect_ratio=st.none() | st.sampled_from(["16:9", "1:1", "auto", "9:9999"]) | text,
    resolution=st.none() | st.sampled_from(["1K", "2K", "4K"]) | text,
    seed=st.none() | number,
    steps=st.none() | number,
    guidance=st.none() | st.floats() | number,
    strength=st.none() | st.floats(),
    quality=st.sampled_from([None, "low", "medium", "high"]),
    style=st.none() | text,
    style_preset=st.none() | st.sampled_from(["Anime", "ink wash"]) | text,
    preview=st.booleans(),
    strict=st.booleans(),
)
any_sizes = st.builds(Size, st.integers(1, 8192), st.integers(1, 8192))


def resolved_or_refused(*drafted, **facts):
    try:
        return resolve(*drafted, **facts)
    except Refusal as refusal:
        return refusal


@given(
    drafts,
    st.sampled_from([DEMO, TWO]),
    st.lists(any_sizes, max_size=4),
    st.none() | any_sizes,
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_draft_is_an_order_or_a_refusal(draft, catalog, inputs, mask, fitting):
    mask = inputs[0] if fitting and inputs and mask else mask
    fresh = itertools.count()
    settled = resolved_or_refused(
        draft,
        catalog,
        LIMITS,
        inputs=inputs,
        mask=mask,
        draw_seed=lambda: -5,
        new_id=lambda: str(next(fresh)),
        preview_steps=4,
    )
    if isinstance(settled, Refusal):
        assert settled.param in Draft.__dataclass_fields__
        assert len(settled.message.encode()) < 2048
        return
    job, offering = settled.job, catalog.find(draft.model)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(job), type=Job) == job
    assert next(fresh) == 1
    assert job.task in offering.tasks
    assert offering.steps_range[0] <= job.steps <= offering.steps_range[1]
    assert offering.guidance_range[0] <= job.guidance <= offering.guidance_range[1]
    assert int(job.steps * job.strength) >= 1
    assert job.strength <= 1
    assert job.inputs <= len(inputs)
    assert job.masked == (mask is not None and draft.task == "edit")
    assert (job.inputs > 0) == (draft.task == "edit")
    named = {notice.param.partition("[")[0] for notice in settled.notices}
    assert named <= set(Draft.__dataclass_fields__)
    assert settled.draft is draft


@given(drafts)
def test_resolving_is_pure(draft):
    def once():
        try:
            return order(catalog=DEMO, **{f: getattr(draft, f) for f in draft.__slots__})
        except Refusal as refusal:
            return refusal.message

    assert once() == once()
