"""What a caption may say of a scene, and every word it may use.

A training caption leaves things out at random, so that short prompts mean something too; a full
caption names everything and is what the model is graded on. Knows nothing of pictures or torch.
"""

from random import Random

from models.demo.scenes import (
    COUNTS,
    LANDS,
    PALETTE,
    PLACES,
    PROPS,
    RELATIONS,
    SHAPES,
    SIZES,
    TIMES,
    Land,
    Scene,
    Thing,
    pick,
)

EMPTY = 0.10  # share of captions without a word: the other half of classifier-free guidance
TERSE = 0.10  # share of one word or two, so that a negative prompt such as "red" is known text
FILLED = 0.05  # share that opens with words of no consequence
FILLERS = ("a picture of", "a drawing of", "a simple sketch of", "a flat icon of", "a photo of")
TEMPLATES = (
    "{what} {where} on a {background} background",
    "{what} {where} on a {background} background",
    "{what} {where}, {background} background",
    "{what} {where} on {background}",
    "a {background} background with {what} {where}",
)
LIGHTS = {"by day": "the sun", "at sunset": "the sun", "at night": "the moon"}


def caption(scene: Scene, rng: Random, explicit: float = 0.0, terse: float = TERSE) -> str:
    """A training caption of the scene, at most 20 words: the share `terse` of one word or two; of
    the longer ones the share `explicit` leaves nothing out."""
    mark = rng.random()
    if mark < EMPTY:
        return ""
    if mark < EMPTY + terse:
        return bare(scene, rng)
    if rng.random() < explicit:
        return full_caption(scene, pick(rng, TEMPLATES))
    opening = f"{pick(rng, FILLERS)} " if rng.random() < FILLED else ""
    if scene.land is not None:
        return tidy(opening + scenery(scene, rng))
    what, where = subject(scene, rng)
    if rng.random() < 0.12:
        return tidy(f"{opening}{what} {where}")
    template = pick(rng, TEMPLATES)
    return tidy(template.format(what=opening + what, where=where, background=scene.background))


def full_caption(scene: Scene, template: str = TEMPLATES[0]) -> str:
    """The caption that names all there is: "a small red circle at the top on a blue background"."""
    if scene.land is not None:
        return view(scene, scene.land, lit=scene.land.light)
    first, *others = scene.things
    if scene.relation is not None:
        what = f"{noun(first.size, first)} {scene.relation} {noun(others[0].size, others[0])}"
    elif others:
        what = counted(scene)
    else:
        what = noun(first.size, first)
    return tidy(template.format(what=what, where=first.place, background=scene.background))


def plain_caption(scene: Scene) -> str:
    """The caption without size and place: "a red circle on a blue background"."""
    what = noun("", scene.things[0])
    return tidy(TEMPLATES[0].format(what=what, where="", background=scene.background))


def bare(scene: Scene, rng: Random) -> str:
    """A word or two that are true of the scene."""
    if scene.land is not None:
        seen = (scene.land.ground, scene.land.time, scene.land.time.split()[-1])
        return pick(
            rng, seen + tuple(word for one in scene.things for word in (one.color, one.shape))
        )
    thing = pick(rng, scene.things)
    words = (thing.color, thing.shape, f"{thing.color} {thing.shape}", scene.background, thing.size)
    known = len(scene.things) == 1  # the size of one of several is nobody's
    return pick(rng, words, (0.27, 0.26, 0.15, 0.27, 0.05 * known))


def subject(scene: Scene, rng: Random) -> tuple[str, str]:
    """Who is in the picture and where, with some attributes left out."""
    if scene.relation is not None:
        return related(scene, scene.relation, rng), ""
    thing, *others = scene.things
    if others:
        return counted(scene, colored=rng.random() < 0.9), ""
    common = thing.place == "in the center"
    return some(thing, rng), thing.place if rng.random() < (0.35 if common else 0.75) else ""


def related(scene: Scene, relation: str, rng: Random) -> str:
    """Two things, from the one's view or from the other's; now and then just "and"."""
    first, second = scene.things
    if rng.random() < 0.5:
        first, second, relation = second, first, opposite(relation)
    if rng.random() < 0.1:
        relation = "and"
    return f"{some(first, rng)} {relation} {some(second, rng)}"


def some(thing: Thing, rng: Random) -> str:
    """The thing with its size named if that is worth a word, and nearly always its colour."""
    named = rng.random() < (0.3 if thing.size == "medium" else 0.75)
    colored = rng.random() < 0.9
    return noun(thing.size if named else "", thing, colored=colored)


def noun(size: str, thing: Thing, *, colored: bool = True) -> str:
    """ "a red circle", "an orange star", "a large ring"."""
    words = [word for word in (size, thing.color if colored else "", thing.shape) if word]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join((article, *words))


def counted(scene: Scene, *, colored: bool = True) -> str:
    """ "two red circles", "three fish"."""
    thing = scene.things[0]
    color = f"{thing.color} " if colored else ""
    return f"{COUNTS[len(scene.things)]} {color}{plural(thing.shape)}"


def plural(shape: str) -> str:
    if shape == "fish":
        return shape
    return f"{shape}es" if shape == "cross" else f"{shape}s"


def scenery(scene: Scene, rng: Random) -> str:
    """A landscape with some of what is in it left out."""
    assert scene.land is not None
    lit = scene.land.light and rng.random() < 0.6
    said = view(scene, scene.land, lit=lit, timed=rng.random() < 0.92)
    return f"a landscape of {said}" if not scene.things and rng.random() < 0.2 else said


def view(scene: Scene, land: Land, *, lit: bool, timed: bool = True) -> str:
    """ "the sea at night with the moon", "a red house on hills at sunset"."""
    ground = "the sea" if land.ground == "sea" else land.ground
    what = f"{ground} {land.time}" if timed else ground
    if scene.things:
        thing = scene.things[0]
        over = "above" if thing.shape == "balloon" else "on"
        what = f"{noun('', thing)} {over} {what}"
    return f"{what} with {LIGHTS[land.time]}" if lit else what


def opposite(relation: str) -> str:
    dx, dy = RELATIONS[relation]
    return next(name for name, way in RELATIONS.items() if way == (-dx, -dy))


def tidy(text: str) -> str:
    return (
        " ".join(text.replace(" ,", ",").split())
        .replace(" ,", ",")
        .replace("a orange", "an orange")
    )


def words() -> list[str]:
    """Every word a caption may hold, sorted; commas excluded."""
    names = (*PALETTE, *SHAPES, *SIZES, *PLACES, *RELATIONS, *COUNTS.values(), *LANDS, *TIMES)
    props = [shape for shapes in PROPS.values() for shape in shapes]
    phrases = (*FILLERS, *LIGHTS.values(), *map(plural, SHAPES), "an and", "a landscape of")
    texts = (*names, *props, *phrases, *TEMPLATES)
    spelled = {word.strip(",") for text in texts for word in text.split() if "{" not in word}
    return sorted(spelled)
