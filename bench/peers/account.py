"""What came of a comparison with peers, as a Markdown table and as a chart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]
OURS = "limner"


def table(document: Document) -> str:
    """The mix in one line, then a row for each contestant."""
    rows: Sequence[Document] = document["contestants"]
    kinds: Sequence[Document] = document["mix"]["request"]
    told = ", ".join(f"{kind.get('weight', 1):g} × {kind['steps']} steps" for kind in kinds)
    head = ["", "images/s", "limner ÷ it", "CPU s per image", "failed"]
    head += [f"{kind['name']} {q} s" for kind in kinds for q in ("p50", "p95")]
    best = next((row["images_per_second"] for row in rows if row["name"] == OURS), None)
    lines = [head, ["---"] * len(head), *(_row(row, kinds, best) for row in rows)]
    text = [f"{document['clients']} clients; {told}", ""]
    return "\n".join([*text, *(f"| {' | '.join(cells)} |" for cells in lines)])


def _row(row: Document, kinds: Sequence[Document], ours: float | None) -> list[str]:
    rate = row["images_per_second"]
    cells = [row["name"], f"{rate:.2f}", f"{ours / rate:.2f}" if ours and rate else "–"]
    cells += [f"{row['cpu_seconds_per_image']:.3f}", str(row["errors"])]
    for kind in kinds:
        found = row["latency"][kind["name"]]
        cells += [f"{found[q]:.2f}" if found else "–" for q in ("p50", "p95")]
    return cells


def chart(document: Document, path: Path) -> None:
    """Images a second, and how long the first kind of request takes at the 95th percentile."""
    from matplotlib import pyplot

    rows = list(reversed(document["contestants"]))
    kind = document["mix"]["request"][0]["name"]
    names = [row["name"] for row in rows]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(9, 0.6 + 0.4 * len(rows)), layout="constrained", sharey=True
    )
    left.barh(names, [row["images_per_second"] for row in rows])
    left.set_xlabel("images/s")
    right.barh(names, [row["latency"][kind].get("p95", 0.0) for row in rows])
    right.set_xlabel(f"p95 of {kind}, s")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
