"""The demo model's grammar and measures, on drawn originals; no torch, no weights."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from models.demo.captions import caption, full_caption, plain_caption, words
from models.demo.measures import (
    Pixels,
    look,
    mark,
    middle,
    most_common_color,
    nearest_colors,
    share_of,
)
from models.demo.scenes import (
    HELD_OUT,
    MARGIN,
    PALETTE,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    Thing,
    anchor,
    draw,
    pair,
    scene,
    silhouette,
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
        ("purple", "medium", "in the center", "heart"),
        ("purple", "medium", "", "triangle"),
        ("green", "medium", "", "diamond"),
    ]


def test_drawn_originals_score_full_marks() -> None:
    for index in range(100):
        asked = single(Random(HELD_OUT + index))
        marks = mark(look(pixels(asked)), asked)
        assert all(getattr(marks, name) for name in ALL), asked


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


def test_every_object_keeps_clear_of_the_edge() -> None:
    for index in range(200):
        for drawn in (single(Random(index)), pair(Random(index))):
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


def test_grading_scenes_were_never_trained_on() -> None:
    from models.demo.recipe import UnetRecipe, VaeRecipe

    trained, pictures = UnetRecipe(), VaeRecipe()
    assert trained.singles + trained.pairs < HELD_OUT
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


def test_training_captions_use_known_words_and_never_lie() -> None:
    known, rng = set(words()), Random(3)
    for index in range(2000):
        drawn = scene(index, pairs=0.3)
        said = caption(drawn, rng).replace(",", "").split()
        assert set(said) <= known
        assert len(said) <= 20
        allowed = {drawn.background, *(thing.color for thing in drawn.things)}
        assert {word for word in said if word in PALETTE} <= allowed
        shapes = {thing.shape for thing in drawn.things}
        assert {word for word in said if word in SHAPES} <= shapes


def test_some_captions_are_empty_and_some_a_single_word() -> None:
    rng = Random(5)
    lengths = [len(caption(single(Random(index)), rng).split()) for index in range(2000)]
    assert 0.07 < lengths.count(0) / 2000 < 0.13
    assert 0.05 < lengths.count(1) / 2000 < 0.13


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
