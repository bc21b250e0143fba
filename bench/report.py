"""The figures of loads, as a Markdown table and as a chart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]

COLUMNS = (
    *("load", "images/s", "p50 s", "p95 s", "p99 s", "queue p50", "paint p50"),
    *("first preview p50", "goodput", "errors"),
)


def text(document: Figures) -> str:
    """What was asked for, a row per load, and what could not be asked for as it was meant."""
    asked = ", ".join(kind(each) for each in document["mix"]["request"])
    notes = "".join(f"\n\nNote: {each}." for each in document["notes"])
    return f"{document['dialect']}; {asked}\n\n{table(document['loads'])}{notes}"


def kind(told: Figures) -> str:
    """A kind of request in few words: what it says itself, and not the server's choice."""
    task = told.get("task", "generate")
    more = [told["model"]] if told.get("model") else []
    more += [f"{told['steps']} steps"] if "steps" in told else []
    more += [f"{told['width']}x{told['height']}"] if "width" in told and "height" in told else []
    more += [f"n = {told['n']}"] if told.get("n", 1) > 1 else []
    more += [*([task] if task != "generate" else []), *(["streamed"] if told.get("stream") else [])]
    return f"{told.get('weight', 1):g} × {told['name']}" + (f" ({', '.join(more)})" if more else "")


def table(loads: Sequence[Figures]) -> str:
    """One row per load."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(load) for load in loads)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(load: Figures) -> tuple[str, ...]:
    latency: Mapping[str, float] = load["latency"]
    faults = ", ".join(f"{count} × {what}" for what, count in load["errors"].items())
    return (
        str(load["shape"]),
        f"{load['images_per_second']:.2f}",
        *(seconds(latency.get(name)) for name in ("p50", "p95", "p99")),
        *(seconds(load[name].get("p50")) for name in ("queue", "paint", "first_preview")),
        f"{load['goodput']:.0%} in {load['slo_seconds']:.2f} s",
        faults or "none",
    )


def seconds(value: float | None) -> str:
    """Three digits behind the point, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def chart(loads: Sequence[Figures], path: Path) -> None:
    """Latency against load: offered where that was a rate, reached otherwise."""
    from matplotlib import pyplot

    offered = all(load["rate"] for load in loads)
    answered = [load for load in loads if load["latency"]]
    across = [load["rate"] if offered else load["images_per_second"] for load in answered]
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, style in (("p50", "o-"), ("p95", "s--"), ("p99", "^:")):
        axes.plot(across, [load["latency"][name] for load in answered], style, label=name)
    if not offered:
        for x, load in zip(across, answered, strict=True):
            axes.annotate(str(load["shape"]), (x, load["latency"]["p50"]), fontsize=8)
    axes.set_xlabel("offered load, requests/s" if offered else "images/s reached")
    axes.set_ylabel("seconds until answered")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
