"""What a caption may say of a scene, and every word it may use.

A training caption leaves things out at random, so that short prompts mean something too; a full
caption names everything and is what the model is graded on. Knows nothing of pictures or torch.
"""

from random import Random

from models.demo.scenes import PALETTE, PLACES, RELATIONS, SHAPES, SIZES, Scene, Thing, pick

EMPTY = 0.10  # share of captions without a word: the other half of classifier-free guidance
BARE = 0.10  # share of one word or two, so that a negative prompt such as "red" is known text
FILLED = 0.05  # share that opens with words of no consequence
FILLERS = ("a picture of", "a drawing of", "a simple sketch of", "a flat icon of", "a photo of")
TEMPLATES = (
    "{what} {where} on a {background} background",
    "{what} {where} on a {background} background",
    "{what} {where}, {background} background",
    "{what} {where} on {background}",
    "a {background} background with {what} {where}",
)


def caption(scene: Scene, rng: Random, explicit: float = 0.0) -> str:
    """A training caption of the scene, at most 20 words; a share of them leaves nothing out."""
    if rng.random() < explicit:
        return full_caption(scene, pick(rng, TEMPLATES))
    mark = rng.random()
    if mark < EMPTY:
        return ""
    if mark < EMPTY + BARE:
        return bare(scene, rng)
    what, where = subject(scene, rng)
    if rng.random() < FILLED:
        what = f"{pick(rng, FILLERS)} {what}"
    if rng.random() < 0.08:
        return tidy(f"{what} {where}")
    return tidy(pick(rng, TEMPLATES).format(what=what, where=where, background=scene.background))


def full_caption(scene: Scene, template: str = TEMPLATES[0]) -> str:
    """The caption that names all there is: "a small red circle at the top on a blue background"."""
    what = " ".join(
        part for thing in scene.things for part in (noun(thing.size, thing), scene.relation or "")
    ).removesuffix(scene.relation or "")
    where = scene.things[0].place
    return tidy(template.format(what=what, where=where, background=scene.background))


def plain_caption(scene: Scene) -> str:
    """The caption without size and place: "a red circle on a blue background"."""
    what = noun("", scene.things[0])
    return tidy(TEMPLATES[0].format(what=what, where="", background=scene.background))


def bare(scene: Scene, rng: Random) -> str:
    thing = pick(rng, scene.things)
    words = (thing.color, thing.shape, f"{thing.color} {thing.shape}", scene.background, thing.size)
    return pick(rng, words, (0.35, 0.30, 0.15, 0.15, 0.05))


def subject(scene: Scene, rng: Random) -> tuple[str, str]:
    """Who is in the picture and where, with some attributes left out."""
    if scene.relation is None:
        thing = scene.things[0]
        common = thing.place == "in the center"
        return some(thing, rng), thing.place if rng.random() < (0.35 if common else 0.75) else ""
    first, second, relation = *scene.things, scene.relation
    if rng.random() < 0.5:
        first, second, relation = second, first, opposite(relation)
    if rng.random() < 0.1:
        relation = "and"
    return f"{some(first, rng)} {relation} {some(second, rng)}", ""


def some(thing: Thing, rng: Random) -> str:
    """The thing with its size named if that is worth a word, and nearly always its colour."""
    named = rng.random() < (0.3 if thing.size == "medium" else 0.75)
    colored = rng.random() < 0.95
    return noun(thing.size if named else "", thing, colored=colored)


def noun(size: str, thing: Thing, *, colored: bool = True) -> str:
    """ "a red circle", "an orange star", "a large ring"."""
    words = [word for word in (size, thing.color if colored else "", thing.shape) if word]
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join((article, *words))


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
    texts = (*PALETTE, *SHAPES, *SIZES, *PLACES, *RELATIONS, *FILLERS, "an and", *TEMPLATES)
    spelled = {word.strip(",") for text in texts for word in text.split() if "{" not in word}
    return sorted(spelled)
