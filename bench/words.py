"""What can be said in each dialect, by what its service documents, and what of a mix cannot.

What decides how much work a request is must be sayable, or the mix is refused; whatever else goes
unsaid is told. Knows nothing of how it is said, nor of any server.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.mix import Kind, Mix

Fields: TypeAlias = frozenset[str]
Bound: TypeAlias = tuple[float, float]
Bounds: TypeAlias = Mapping[str, Bound]

HARMLESS: Fields = frozenset({"seed", "stream"})  # another picture, or told less of: as much work
TIERS = {"1K": 1024, "2K": 2048, "4K": 4096}  # px of a square
RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
UNSAID = "has no word for what was left out"
UNASKED = "leaves to the server"
BEYOND = "documents no word for what was sent all the same (a server may ignore it)"
ROUNDED = "says sizes in words of its own"
NEAR_RATIO, NEAR_SIDE = 0.03, 0.05  # 1344x768 is what services make of 16:9


@dataclass(frozen=True, slots=True)
class Words:
    """What a request for a task can say.

    Attributes:
        known: fields of a kind that the API has a word for.
        beyond: those that servers take although it has not: they are sent, and that is told.
        bounds: the least and the largest value of a field, where a mix can ask for more.
        tiers: whether a size is said as an aspect ratio and one of TIERS, and not in px.
    """

    known: Fields
    beyond: Fields = frozenset()
    bounds: Bounds = field(default_factory=dict[str, Bound])
    tiers: bool = False


@dataclass(frozen=True, slots=True)
class Language:
    """What a dialect has words for, in requests from nothing and in those from a picture."""

    generate: Words
    edit: Words

    def of(self, kind: Kind) -> Words:
        """Those for requests of a kind."""
        return self.generate if kind.task == "generate" else self.edit


def _words(known: str, beyond: str = "", *, tiers: bool = False, **bounds: Bound) -> Words:
    return Words(frozenset(known.split()), frozenset(beyond.split()), bounds, tiers)


LANGUAGES: Mapping[str, Language] = {
    "aimo": Language(
        _words("n size steps guidance seed stream"),
        _words("n size guidance seed mask stream", "steps strength", n=(1, 6)),
    ),
    "openai": Language(
        _words("n size stream", "steps guidance seed"),
        _words("n size mask stream", "steps guidance seed strength"),
    ),
    "venice": Language(
        _words(
            "n size steps guidance seed",
            n=(1, 4),
            width=(1, 1280),
            height=(1, 1280),
            guidance=(1e-6, 20),  # more than none
        ),
        _words(""),
    ),
    "depicta": Language(
        _words("size", "steps guidance seed", tiers=True),
        _words("size", "steps guidance seed strength", tiers=True),
    ),
}


def asked(kind: Kind) -> set[str]:
    """The fields in which a kind asks for something."""
    more = {"n": kind.n > 1, "mask": kind.task == "inpaint", "stream": kind.stream}
    more |= {name: getattr(kind, name) is not None for name in ("steps", "guidance", "strength")}
    return {"size", "seed"} | {name for name, wanted in more.items() if wanted}


def sized(kind: Kind) -> bool:
    """Whether a kind says itself how large its pictures are."""
    return not kind.model_fields_set.isdisjoint(("width", "height"))


def tier(kind: Kind) -> tuple[str, str] | None:
    """The aspect ratio and the tier that come close to a kind's size, if any do."""
    shape, side = kind.width / kind.height, math.sqrt(kind.width * kind.height)
    ratio = min(RATIOS, key=lambda each: abs(math.log(shape / _quotient(each))))
    name = min(TIERS, key=lambda each: abs(math.log(side / TIERS[each])))
    near = abs(shape / _quotient(ratio) - 1) <= NEAR_RATIO
    return (ratio, name) if near and abs(side / TIERS[name] - 1) <= NEAR_SIDE else None


def _quotient(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)


# -- What of a mix cannot be said -----------------------------------------------------------------


def faults(dialect: str, mixed: Mix) -> list[str]:
    """Why a mix cannot be asked in a dialect; each names the kind, the field and what is wrong."""
    told = ((kind, LANGUAGES[dialect].of(kind)) for kind in mixed.request)
    return [f"{kind.name}: {each}" for kind, words in told for each in _faults(kind, words)]


def _faults(kind: Kind, words: Words) -> Iterator[str]:
    unknown = asked(kind) - words.known - words.beyond - HARMLESS
    if kind.task != "generate":
        unknown -= {"size"}  # the picture to start from has it
    yield from (f"{name}: there is no word for it" for name in sorted(unknown))
    for name, (least, most) in words.bounds.items():
        value = getattr(kind, name)
        if value is not None and not least <= value <= most:
            yield f"{name}: {least:g} to {most:g} can be asked for, and not {value:g}"
    if words.tiers and sized(kind) and tier(kind) is None:
        known = f"{', '.join(TIERS)} in {', '.join(RATIOS)}"
        yield f"size: there is no word for {kind.width}x{kind.height}, but for {known}"


def notes(dialect: str, mixed: Mix) -> list[str]:
    """What goes unsaid, or is said otherwise, and in which kinds: a line for each."""
    found: dict[str, dict[str, list[str]]] = {}
    for kind in mixed.request:
        for what, name in _notes(kind, LANGUAGES[dialect].of(kind)):
            found.setdefault(what, {}).setdefault(name, []).append(kind.name)
    every = [kind.name for kind in mixed.request]

    def listed(named: Mapping[str, list[str]]) -> str:
        told = [(name, _of(kinds, every)) for name, kinds in sorted(named.items())]
        return "; ".join(f"{name} (of {which})" for name, which in told)

    return [f"{dialect} {what}: {listed(named)}" for what, named in found.items()]


def _of(kinds: list[str], every: list[str]) -> str:
    return "all" if kinds == every and len(every) > 1 else ", ".join(kinds)


def _notes(kind: Kind, words: Words) -> Iterator[tuple[str, str]]:
    said = asked(kind)
    left = said - words.known - words.beyond
    yield from ((UNSAID, name) for name in left)
    if words.tiers and not sized(kind):
        yield UNASKED, "size"
    yield from ((BEYOND, name) for name in said & words.beyond)
    if words.tiers and sized(kind) and (near := tier(kind)):
        yield ROUNDED, f"{kind.width}x{kind.height} as {near[1]} in {near[0]}"
