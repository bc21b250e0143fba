"""Whole pictures by every way that was measured, against what their arithmetic allows and against
what limner is to reach on one GPU. Knows nothing of how the figures came about.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bench.tables import SHORTCUTS, markdown, neat, shown

Row: TypeAlias = Mapping[str, Any]
Figures: TypeAlias = dict[str, Any]

H200 = "NVIDIA H200"
# TFLOP/s in bfloat16, by the GPU's name. Of an H200: what products of 8192 × 8192 random numbers
# reach through torch, 769 to 798 in several runs on two machines (its data sheet says 989).
CEILINGS: Mapping[str, float] = {H200: 790.0}


@dataclass(frozen=True, slots=True)
class Target:
    """The most seconds that a picture may take."""

    exact: float
    stretch: float | None = None
    lossy: float | None = None  # with shortcuts that change pictures, and say so


# Of one H200, by model, px and steps.
TARGETS: Mapping[tuple[str, int, int], Target] = {
    ("flux-dev", 1024, 28): Target(3.5, lossy=2.4),
    ("sdxl", 1024, 30): Target(1.05, stretch=0.85),
    ("sd15", 512, 30): Target(0.12),
}
TOGETHER = 8  # pictures at once …
TOGETHER_SIDE = 512  # … of so many px, a side
TOGETHER_GAIN = 3.0  # times as many as one by one, nothing being tuned
NAMES = {"graphs": "graphs", "compile": "compiled", "compile+graphs": "both"}
PLAIN = ("plain diffusers", "plain diffusers, limner's kernels")  # limner has no target for them
DOUBTFUL = "step_cache"  # how many steps it leaves out is the weights' to say, and those are random
COLUMNS = (
    *("picture", "way", "s/picture", "floor s", "ratio to floor", "share of peak"),
    *("target", "met"),
)
BEST = ("picture", "plain diffusers s", "limner s", "way", "floor s", "target", "met")


def lines(rows: Sequence[Row], device: str, ceiling: float) -> list[Figures]:
    """A line for each picture and way.

    Args:
        device: the GPU's name; only an H200's figures are held to targets.
        ceiling: TFLOP/s, that a picture's arithmetic is divided by to be its floor.
    """
    found: list[Figures] = []
    for row in rows:
        goal = TARGETS.get((row["model"], row.get("side", 0), row.get("steps", 0)))
        goal = goal if device == H200 else None
        found += [against_floor(row, line, ceiling) | judged(line, goal) for line in alone(row)]
        held = device == H200
        found += [against_floor(row, line, ceiling) | gained(line, held) for line in together(row)]
    return found


def alone(row: Row) -> Iterator[Figures]:
    """Seconds of one picture in each way, as it is painted for a client."""
    bare, as_it_comes = row.get("bare_seconds"), row.get("as_it_comes_seconds")
    known = {
        PLAIN[0]: as_it_comes or bare,
        PLAIN[1]: bare if as_it_comes else None,
        "limner": row.get("picture_seconds"),
    }
    known |= {NAMES[key]: told.get("picture_seconds") for key, told in ways(row)}
    compiled = "compiled, " if row.get("compiled") else ""
    lossy = {
        f"{compiled}lossy: {key}": row[key].get("picture_seconds")
        for key in SHORTCUTS
        if key in row and row.get("lossy_steps") == row.get("steps")
    }
    for way, seconds in (known | lossy).items():
        if seconds is not None:
            yield {"picture": named(row), "way": way, "seconds": seconds, "lossy": way in lossy}


def together(row: Row) -> Iterator[Figures]:
    """Seconds for each of the most pictures at once, and how many times as many that is."""
    for key in (key for key in row if key.startswith("batch_")):
        side, sizes = int(key[6:]), {each["canvases"]: each for each in row[key]}
        yield from crowd(row, side, "limner", sizes, sizes[1].get("picture_seconds"))
        for name, told in ways(row) if side == row.get("side") else ():
            tuned = {each["canvases"]: each for each in told.get("company", ())}
            yield from crowd(row, side, NAMES[name], tuned, sizes[1].get("picture_seconds"))


def crowd(
    row: Row, side: int, way: str, sizes: Mapping[int, Row], alone: float | None
) -> Iterator[Figures]:
    """The largest of several companies, if it is one."""
    fit = [count for count in sizes if "picture_seconds" in sizes[count]]
    if alone is None or not fit or (most := max(fit)) == 1:
        return
    seconds = sizes[most]["picture_seconds"]
    yield {
        "picture": f"{named(row, side)}, {most} at once",
        "way": way,
        "seconds": seconds,
        "lossy": False,
        "gain": alone / seconds,
        "held": most == TOGETHER and side == TOGETHER_SIDE,
        "tflop": sizes[most].get("tflop_per_picture"),
    }


def ways(row: Row) -> Iterator[tuple[str, Row]]:
    """What was tuned, by its name."""
    yield from row.get("tunings", {}).items()


def named(row: Row, side: int | None = None) -> str:
    """What is painted."""
    return f"{row['model']} {side or row.get('side')}², {row.get('steps')} steps"


def against_floor(row: Row, line: Figures, ceiling: float) -> Figures:
    """The line, and how far it is from what the arithmetic of its picture takes at the least."""
    tflop = line.get("tflop") or arithmetic(row)
    told = {name: line[name] for name in ("picture", "way", "seconds")}
    if tflop is None:
        return told
    floor = tflop / ceiling
    ratio, share = line["seconds"] / floor, floor / line["seconds"]
    return told | {"floor_seconds": neat(floor), "ratio": neat(ratio), "share": neat(share)}


def arithmetic(row: Row) -> float | None:
    """TFLOP of one picture of the usual size: its steps and its decoding."""
    if "tflop_per_step" not in row:
        return None
    return row["steps"] * row["tflop_per_step"] + row.get("tflop_to_decode", 0.0)


def judged(line: Figures, goal: Target | None) -> Figures:
    """What it may take, and whether it does."""
    if goal is None or line["way"] in PLAIN or DOUBTFUL in line["way"]:
        return {}
    seconds = line["seconds"]
    if line["lossy"]:
        return verdict(f"≤ {goal.lossy} s", seconds <= goal.lossy) if goal.lossy else {}
    if goal.stretch is None:
        return verdict(f"≤ {goal.exact} s", seconds <= goal.exact)
    told = verdict(f"≤ {goal.exact} s, at best {goal.stretch} s", seconds <= goal.exact)
    return told | ({"met": "yes, at best"} if seconds <= goal.stretch else {})


def gained(line: Figures, held: bool) -> Figures:
    """How many pictures it is in the time of one, and whether that is enough."""
    gain = f"{line['gain']:.2f} ×"
    if not (held and line["held"]):
        return {"met": gain}
    told = verdict(f"≥ {TOGETHER_GAIN:.0f} × one by one", line["gain"] >= TOGETHER_GAIN)
    return told | {"met": f"{told['met']}: {gain}"}


def verdict(target: str, met: bool) -> Figures:
    """Of one target."""
    return {"target": target, "met": "yes" if met else "no"}


def table(found: Sequence[Row]) -> str:
    """The lines as Markdown."""
    keys = ("picture", "way", "seconds", "floor_seconds", "ratio")
    told = [
        [*(shown(line.get(key)) for key in keys), percent(line.get("share"))]
        + [shown(line.get(key)) for key in ("target", "met")]
        for line in found
    ]
    return markdown([COLUMNS, ["---"] * len(COLUMNS), *told])


def best(found: Sequence[Row]) -> str:
    """For each target the quickest way, beside the stock pipeline as it comes."""
    quickest: dict[tuple[str, str], Row] = {}
    for line in sorted(found, key=lambda line: line["seconds"], reverse=True):
        if line.get("target"):
            quickest[line["picture"], line["target"]] = line
    plain = {line["picture"]: line["seconds"] for line in found if line["way"] == PLAIN[0]}
    keys = ("seconds", "way", "floor_seconds", "target", "met")
    told = [
        [
            line["picture"],
            shown(plain.get(line["picture"])),
            *(shown(line.get(key)) for key in keys),
        ]
        for line in sorted(quickest.values(), key=lambda line: line["picture"])
    ]
    return markdown([BEST, ["---"] * len(BEST), *told])


def percent(share: float | None) -> str:
    """A share in words."""
    return "–" if share is None else f"{share:.0%}"
