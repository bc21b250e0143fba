"""The figures of `bench.engine` as tables in Markdown, each of one kind of figure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]  # what is known of one model

COLUMNS: Mapping[str, str] = {
    "model": "model",
    "side": "px",
    "steps": "steps",
    "step_seconds": "s/step",
    "picture_seconds": "s/picture",
    "bare_seconds": "bare s",
    "studio_to_bare": "studio ÷ bare",
    "as_it_comes_seconds": "as it comes s",
    "tflop_per_step": "TFLOP/step",
    "share_of_peak": "of peak",
    "text_seconds": "text s",
    "encode_seconds": "encode s",
    "decode_seconds": "decode s",
    "peak_gb": "peak GB",
    "cancel_seconds": "cancel s",
}
TUNED: Mapping[str, str] = {
    "picture_seconds": "s/picture",
    "eager_picture_seconds": "plain",
    "picture_gain": "×",
    "step_seconds": "s/step",
    "eager_step_seconds": "plain",
    "step_gain": "×",
    "decode_seconds": "decode s",
    "eager_decode_seconds": "plain",
    "decode_gain": "×",
    "off_max_levels": "largest byte difference",
    "off_mean_levels": "mean",
    "first_seconds": "first s",
}
CHOICES: Mapping[str, str] = {  # of few steps and no whole picture
    key: name for key, name in TUNED.items() if "picture" not in key and key != "first_seconds"
}
LOSSY: Mapping[str, str] = {
    "picture_seconds": "s/picture",
    "gain": "×",
    "off_mean_levels": "mean byte difference",
}
SHORTCUTS = ("step_cache", "step_forecast", "fp8", "fp8+step_cache", "fp8+step_forecast")


def engine(rows: Sequence[Row]) -> str:
    """All of them, but for those that would be empty."""
    more = (curves, services, choices, tunings, shortcuts)
    tables = [[*models(rows)], *([*each(rows)] for each in more)]
    kept = [table for place, table in enumerate(tables) if not place or table[2:]]
    return "\n\n".join(markdown(table) for table in kept)


def models(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """A line for each model. What reads texts is a stand-in where weights are made up."""
    yield [*COLUMNS.values()]
    yield ["---"] * len(COLUMNS)
    for row in rows:
        told = dict(row) | ({"text_seconds": None} if row.get("made_up") else {})
        yield [shown(told.get(key)) for key in COLUMNS]


def painting(rows: Sequence[Row]) -> str:
    """What a picture takes by the stock pipeline as it comes, and by limner; and each of several,
    in one call of the former, and asked of the latter at once over HTTP."""
    head = [
        "picture",
        "plain diffusers s",
        "limner s",
        "at once",
        "plain, s each",
        "served, s each",
    ]
    lines: list[Sequence[str]] = [head, ["---"] * len(head)]
    for row in rows:
        plain = row.get("as_it_comes_seconds") or row.get("bare_seconds")
        if plain is not None:
            what = f"{row['model']} {row['side']}², {row['steps']} steps"
            lines.append([what, shown(plain), shown(row["picture_seconds"]), *company(row)])
    return markdown(lines)


def company(row: Row) -> Iterator[str]:
    """How many were asked for at once at the most, and seconds for each in both ways."""
    most: Row = max(row.get("served", ()), key=lambda each: each["canvases"], default={})
    if most.get("canvases", 1) == 1:
        yield from [shown(None)] * 3
        return
    yield shown(most["canvases"])
    for name in ("bare_seconds", "served_seconds"):
        yield shown(neat(most[name] / most["canvases"]))


def curves(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Throughput by the number of canvases."""
    yield ["model", "px", "canvases", "s/step", "steps per s, × alone", "largest byte difference"]
    yield ["---"] * 6
    for row in rows:
        for key in (key for key in row if key.startswith("batch_")):
            for each in row[key]:
                told = (each.get(name) for name in ("step_seconds", "gain", "off_max_levels"))
                yield [row["model"], key[6:], str(each["canvases"]), *map(shown, told)]


def services(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Over HTTP against bare, by the number of pictures at once."""
    yield ["model", "pictures at once", "served s", "bare s", "served ÷ bare"]
    yield ["---"] * 5
    for row in rows:
        for each in row.get("served", ()):
            names = ("canvases", "served_seconds", "bare_seconds", "served_to_bare")
            yield [row["model"], *(shown(each[name]) for name in names)]


def choices(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Kernels against others, a line for each choice."""
    yield ["model", "kernels", *CHOICES.values()]
    yield ["---"] * (2 + len(CHOICES))
    for row in rows:
        for name, each in row.get("kernels", {}).items():
            yield [row["model"], called(name, each), *(shown(each.get(key)) for key in CHOICES)]


def tunings(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """Other ways to run a denoiser against the plain one."""
    yield ["model", "way", *TUNED.values(), "first again s"]
    yield ["---"] * (3 + len(TUNED))
    for row in rows:
        for name, each in row.get("tunings", {}).items():
            again = row.get("compiled_again_seconds") if name == "compile" else None
            told = [shown(each.get(key)) for key in TUNED]
            yield [row["model"], called(name, each), *told, shown(again)]


def shortcuts(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    """What changes pictures, against the same without it."""
    yield ["model", "not the same picture", "compiled", *LOSSY.values(), "plain s", "labels"]
    yield ["---"] * (5 + len(LOSSY))
    for row in rows:
        for name in (name for name in SHORTCUTS if name in row):
            each = row[name]
            told = [row["model"], called(name, each), "yes" if row["compiled"] else "no"]
            told += [shown(each.get(key)) for key in LOSSY]
            yield [
                *told,
                shown(row["lossy_plain_seconds"]),
                "; ".join(each.get("notes", ())) or "–",
            ]


def called(name: str, each: Row) -> str:
    """What a line is of, and why it has no figures."""
    why = each.get("refused") or each.get("skipped")
    if each.get("recorded") == 0:
        why = "nothing was recorded"
    return f"{name} ({why.removeprefix(f'{name}: ')})" if why else name


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Head, rule and rows."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def neat(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def shown(value: object) -> str:
    """A cell; a dash for what was not measured."""
    return "–" if value is None else str(value)
