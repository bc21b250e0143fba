"""The demo model's grammar and measures, on drawn originals; no torch, no weights."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from models.demo.captions import caption, full_caption, plain_caption, words
from models.demo.drawing import draw, silhouette
from models.demo.measures import (
    Pixels,
    lights,
    look,
    mark,
    middle,
    most_common_color,
    nearest_colors,
    pieces,
    shape_in,
    share_of,
    tally,
    view_of,
)
from models.demo.scenes import (
    FRAMES,
    GEOMETRIC,
    HELD_OUT,
    KINDS,
    LANDS,
    MARGIN,
    ONE_OF_SEVERAL,
    PALETTE,
    PLACES,
    PROPS,
    SHAPES,
    SIDE,
    SIZES,
    THINGS,
    TIMES,
    WIDE,
    Frame,
    Land,
    Scene,
    Thing,
    anchor,
    compose,
    landscape,
    pair,
    scene,
    several,
    single,
)
from models.demo.vocabulary import new_vocabulary, split

ALL = ("background", "color", "place", "size", "shape")


def pixels(scene: Scene) -> Pixels:
    return np.asarray(draw(scene))


def centred(shape: str, color: str = "red", background: str = "blue") -> Scene:
    thing = Thing(shape, color, "medium", "in the center", SIDE / 2, SIDE / 2, SIZES["medium"])
    return Scene(background, (thing,))


def test_a_seed_is_a_scene_and_a_picture() -> None:
    assert scene(7) == scene(7)
    assert np.array_equal(pixels(scene(7)), pixels(scene(7)))
    assert scene(7) != scene(8)


def test_scenes_are_the_same_on_every_python() -> None:
    things = single(Random(0)).things + pair(Random(0)).things
    assert [(thing.color, thing.size, thing.place, thing.shape) for thing in things] == [
        ("purple", "medium", "in the center", "ring"),
        ("purple", "medium", "", "star"),
        ("green", "medium", "", "crescent"),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frame", FRAMES)
def test_a_kind_of_scene_is_what_it_says_and_fills_its_frame(kind: str, frame: Frame) -> None:
    for index in range(50):
        drawn = compose(kind, Random(index), frame)
        assert drawn.frame == draw(drawn).size == frame
        shapes = {thing.shape for thing in drawn.things}
        assert (drawn.land is not None) == (kind == "land")
        assert (drawn.relation is not None) == (kind == "pair")
        assert len(drawn.things) in {"pair": (2,), "count": (2, 3), "land": (0, 1)}.get(kind, (1,))
        if kind in ("geometric", "thing"):
            assert shapes <= set(GEOMETRIC if kind == "geometric" else THINGS)


@pytest.mark.parametrize("frame", FRAMES)
def test_drawn_originals_score_full_marks(frame: Frame) -> None:
    for index in range(60):
        asked = single(Random(HELD_OUT + index), SHAPES, frame)
        marks = mark(look(pixels(asked)), asked)
        assert all(getattr(marks, name) for name in ALL), asked


@pytest.mark.parametrize("frame", FRAMES)
def test_drawn_originals_are_counted_and_their_lands_told(frame: Frame) -> None:
    for index in range(60):
        asked = several(Random(HELD_OUT + index), frame)
        seen = tally(pixels(asked))
        assert seen == (asked.background, asked.things[0].color, len(asked.things))
        asked = landscape(Random(HELD_OUT + index), frame)
        picture, land = pixels(asked), asked.land
        assert land is not None
        assert view_of(picture) == (land.ground, land.time)
        if asked.things:
            assert shape_in(picture, land, asked.things[0].color) == asked.things[0].shape
        else:
            assert lights(picture, land) == land.light


def test_in_a_land_a_second_light_and_another_shape_are_noticed() -> None:
    land = Land("hills", "by day", True, (0.5,) * 5)
    lit = pixels(Scene("", (), land=land))
    assert lights(lit, land) == 1
    twice = lit.copy()
    twice[:60, 64:] = lit[:60, 63::-1]
    assert lights(twice, land) == 2
    assert lights(pixels(Scene("", (), land=replace(land, light=False))), land) == 0
    for shape in PROPS["hills"]:
        thing = Thing(shape, "red", "medium", "", 92, 84, ONE_OF_SEVERAL)
        picture = pixels(Scene("", (thing,), land=land))
        assert shape_in(picture, land, "red") == shape
        assert shape_in(picture, land, "pink") == ""


def test_pieces_are_counted_by_connection_and_specks_are_not() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5:25, 5:25] = mask[30:50, 30:50] = True
    mask[10:15, 10:15] = False
    assert pieces(mask) == 2
    mask[25:30, 20:35] = mask[20:50, 20:22] = True
    assert pieces(mask) == 1
    mask[55, 55] = True
    assert pieces(mask) == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", PLACES)
def test_every_shape_is_recognised_at_every_place(shape: str, place: str) -> None:
    x, y = anchor(place, SIZES["small"])
    thing = Thing(shape, "white", "small", place, x, y, SIZES["small"])
    seen = look(pixels(Scene("purple", (thing,))))
    assert (seen.background, seen.color, seen.place) == ("purple", "white", place)
    assert (seen.size, seen.shape) == ("small", shape)
    assert seen.fit > 0.85


def test_another_picture_loses_the_marks_it_should() -> None:
    asked = centred("circle")
    assert not mark(look(pixels(centred("star"))), asked).shape
    assert not mark(look(pixels(centred("circle", "green"))), asked).color
    assert not mark(look(pixels(centred("circle", "red", "white"))), asked).background


def test_a_plain_or_noisy_picture_shows_nothing_asked_for() -> None:
    asked = centred("circle")
    plain = np.full((SIDE, SIDE, 3), PALETTE["blue"], dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, plain.shape, dtype=np.uint8)
    assert not mark(look(plain), asked).color
    assert not mark(look(noise), asked).shape


@pytest.mark.parametrize("frame", FRAMES)
def test_every_object_keeps_clear_of_the_edge(frame: Frame) -> None:
    for index in range(60):
        for make in (single, pair, several):
            drawn = make(Random(index), frame=frame)
            names = nearest_colors(pixels(drawn))
            edge = np.concatenate((names[0], names[-1], names[:, 0], names[:, -1]))
            assert (edge == list(PALETTE).index(drawn.background)).all()


def test_objects_differ_in_colour_from_what_they_lie_on() -> None:
    for index in range(200):
        drawn = pair(Random(index))
        colors = {drawn.background, *(thing.color for thing in drawn.things)}
        assert len(colors) == 3
        assert most_common_color(pixels(drawn), besides=drawn.background) in colors


def test_sizes_are_far_enough_apart_to_tell() -> None:
    diameters = sorted(SIZES.values())
    assert all(large > 1.3 * small for small, large in pairwise(diameters))
    assert max(diameters) / 2 + MARGIN < SIDE / 2


def test_silhouettes_differ() -> None:
    stencils = {shape: np.asarray(silhouette(shape)) > 127 for shape in SHAPES}
    for one, stencil in stencils.items():
        for other, its in stencils.items():
            overlap = (stencil & its).sum() / (stencil | its).sum()
            assert one == other or overlap < 0.87, (one, other)


def test_lands_differ_by_ground_and_by_time() -> None:
    looks = {
        (ground, time): pixels(Scene("", (), land=Land(ground, time, False, (0.5,) * 5)))
        for ground in LANDS
        for time in TIMES
    }
    for one, picture in looks.items():
        assert view_of(picture) == one
        for other, its in looks.items():
            far = np.abs(picture.astype(int) - its).mean()
            assert one == other or far > 5, (one, other)


def test_grading_scenes_were_never_trained_on() -> None:
    from models.demo.recipe import POOLS, VaeRecipe

    pictures = VaeRecipe()
    assert max(POOLS.values()) <= 1_000_000
    assert len(POOLS) * 1_000_000 < HELD_OUT
    assert pictures.steps * pictures.batch < HELD_OUT


def test_captions_say_what_is_there() -> None:
    assert plain_caption(centred("circle")) == "a red circle on a blue background"
    assert plain_caption(centred("star", "orange")) == "an orange star on a blue background"
    full = full_caption(centred("ring", "teal"))
    assert full == "a medium teal ring in the center on a blue background"


def test_the_caption_of_a_pair_names_both_in_order() -> None:
    left, right = (
        Thing(*words, "medium", "", 0, 0, 0) for words in (("star", "red"), ("ring", "pink"))
    )
    both = Scene("white", (left, right), "to the left of")
    assert full_caption(both) == (
        "a medium red star to the left of a medium pink ring on a white background"
    )


def test_alike_things_are_counted_in_words() -> None:
    three = (Thing("cross", "red", "medium", "", 0, 0, 0),) * 3
    assert full_caption(Scene("white", three)) == "three red crosses on a white background"
    two = (Thing("fish", "blue", "medium", "", 0, 0, 0),) * 2
    assert full_caption(Scene("pink", two)) == "two blue fish on a pink background"


def test_the_caption_of_a_land_names_the_time_the_light_and_the_thing() -> None:
    sea, hills = (Land(ground, "at night", True, (0.0,) * 5) for ground in ("sea", "hills"))
    boat = Thing("boat", "orange", "medium", "", 0, 0, 0)
    assert full_caption(Scene("", (), land=hills)) == "hills at night with the moon"
    assert full_caption(Scene("", (boat,), land=sea)) == (
        "an orange boat on the sea at night with the moon"
    )


def test_training_captions_use_known_words_and_never_lie() -> None:
    known, rng = set(words()), Random(3)
    for index in range(3000):
        drawn = scene(index)
        said = caption(drawn, rng).replace(",", "").split()
        assert set(said) <= known
        assert len(said) <= 20
        allowed = {drawn.background, *(thing.color for thing in drawn.things)}
        assert {word for word in said if word in PALETTE} <= allowed
        shapes = {thing.shape for thing in drawn.things}
        assert {word for word in said if word in SHAPES} <= shapes
        if drawn.land is None:
            assert not {"sea", "hills", "mountains", "night", "sun", "moon"} & set(said)
        else:
            assert {word for word in said if word in LANDS} <= {drawn.land.ground}
            assert {"day", "sunset", "night"} & set(said) <= {drawn.land.time.split()[-1]}


def test_some_captions_are_empty_and_some_a_single_word() -> None:
    rng = Random(5)
    lengths = [len(caption(single(Random(index)), rng, 0.5).split()) for index in range(2000)]
    assert 0.07 < lengths.count(0) / 2000 < 0.13
    assert 0.05 < lengths.count(1) / 2000 < 0.13
    terse = [len(caption(single(Random(index)), rng, 1.0, 0.3).split()) for index in range(2000)]
    assert 0.26 < sum(length in (1, 2) for length in terse) / 2000 < 0.34


def test_a_color_alone_is_as_often_the_background_s_as_the_thing_s() -> None:
    """Else a negative colour would be kept out of one more than of the other."""
    rng, said = Random(6), Counter[str]()
    for index in range(4000):
        drawn = single(Random(index))
        if (word := caption(drawn, rng, terse=1.0)) in PALETTE:
            said["thing" if word == drawn.things[0].color else "background"] += 1
    assert 0.85 < said["thing"] / said["background"] < 1.15


def test_a_place_lies_further_out_in_a_wide_frame() -> None:
    assert anchor("on the left", 40, WIDE) == (anchor("on the left", 40)[0], WIDE[1] / 2)
    assert anchor("on the right", 40, WIDE)[0] == anchor("on the right", 40)[0] + WIDE[0] - SIDE


def test_every_word_is_one_token_and_no_word_is_unknown() -> None:
    vocabulary = new_vocabulary(words())
    assert len(set(vocabulary.tokens.values())) == len(vocabulary.tokens)
    for word in words():
        assert split(word, vocabulary.merges) == [f"{word}</w>"]
    zebra = split("zebra", vocabulary.merges)
    assert "".join(zebra) == "zebra</w>"
    assert all(token in vocabulary.tokens for token in zebra)


def test_share_of_counts_under_the_mask_only() -> None:
    picture = pixels(centred("square"))
    assert share_of(picture, "red", middle(0.4)) == 1.0
    assert share_of(picture, "red", ~middle(0.6)) == 0.0
