"""Puts the figures that are kept in bench/results into the README and docs/performance.md.

`limner bench publish`, or `--publish` of the scripts that measure. Each table stands between a line
`<!-- bench: NAME -->` and a line `<!-- end -->`; one whose figures were never kept stays as it is.
"""

import argparse
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from bench import report, tables, targets
from bench.peers import account

Document: TypeAlias = Mapping[str, Any]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "performance.md"
KINDS = ("serving", "peers", "load", "engine")
NAME = re.compile(rf"({'|'.join(KINDS)})-[a-z0-9-]+\.json")


def kept(kind: str, device: str, plan: int | None = None) -> Path:
    """Where the figures of a kind are kept, for the machine with this device; of each plan by
    itself."""
    name = "cpu" if device.startswith("CPU") else re.sub(r"[^a-z0-9]+", "-", device.lower())
    return RESULTS / f"{kind}-{name}{f'-plan-{plan}' if plan else ''}.json"


def publish(*fresh: Path) -> None:
    """Keep these files, and write every table whose figures are kept; name those that no page has a
    place for."""
    for path in fresh:
        shutil.copyfile(path, RESULTS / path.name)
    found, pages = every(), {path: path.read_text(encoding="utf-8") for path in (README, PAGE)}
    for name, table in found.items():
        if not any(f"<!-- bench: {name} -->" in text for text in pages.values()):
            print(
                f"no page has a place for {name}: <!-- bench: {name} --> and <!-- end --> make one"
            )
        pages = {path: replaced(text, name, table) for path, text in pages.items()}
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, table: str) -> str:
    """A page with a table in its place, if it has one for it."""
    block = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    return block.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def every() -> Mapping[str, str]:
    """The tables by name; those of several plans on one machine under one."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.json")):
        kind, _, where = re.sub(r"-plan-\d+$", "", path.stem).partition("-")
        document: Document = json.loads(path.read_text(encoding="utf-8"))
        for name, table in of_kind(kind, document):
            found[f"{name}-{where}"].append(headed(document, table))
    return {name: "\n\n".join(each) for name, each in found.items()}


def of_kind(kind: str, document: Document) -> Iterator[tuple[str, str]]:
    """The tables of one file; what was to be met but was not is told below."""
    if kind == "serving":
        yield kind, rows(served(document))
    elif kind == "peers":
        yield kind, account.table(document)
    elif kind == "load":
        yield kind, report.text(document)
    elif kind == "engine":
        failed = "\n".join(f"- Not passed: {each}" for each in document.get("failures", ()))
        yield kind, f"{document['table']}\n\n{failed}".strip()
        lines = document.get("targets", ())
        if any(line.get("target") for line in lines):
            yield "targets", f"{targets.table(lines)}\n\n{failed}".strip()
            yield "reached", f"{targets.best(lines)}\n\n{failed}".strip()
        else:
            yield "painting", f"{tables.painting(document.get('models', ()))}\n\n{failed}".strip()


def headed(document: Document, table: str) -> str:
    """A table under the machine and the day it is of."""
    facts: Document = document["machine"]
    device = facts.get("device", "one thread painting")
    told = f"{facts['cores']} cores of {facts['processor']}, {device}, {facts['date']}"
    return f"{told}; load of the machine before: {facts['load_before']}.\n\n{table}"


def rows(pairs: Iterator[Sequence[str]]) -> str:
    """A Markdown table without a head."""
    return "\n".join(["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in pairs)])


def served(document: Document) -> Iterator[Sequence[str]]:
    """What serving costs, a line for each figure that was measured."""
    for name, each in document.get("picture", {}).items():
        more = each["overhead_ms"]
        yield (
            f"a picture of `sketch`, {each['steps']} steps, {name}, served",
            f"{each['served_seconds']:.2f} s, of which serving is {more['p50']:.0f} ms "
            f"(p95 {more['p95']:.0f} ms)",
        )
    if full := document.get("saturation"):
        what = f"images per second of a full server, to bare batches of {full['canvases']}"
        yield what, f"{full['served_to_bare']:.2f}"
        yield "the same, with networks tuned in both", f"{full['served_to_tuned']:.2f}"
    for name, each in document.get("sharing", {}).items():
        what = f"four requests of {name} steps together, against one by one"
        yield what, f"{each['ratio']:.2f} of the time; the shortest {each['shortest_ratio']:.1f} ×"
    if heard := document.get("listeners"):
        duties = f"{heard['listeners']} idle listeners and {heard['health_checks_per_second']}"
        yield f"a step beside {duties} health checks a second", f"{heard['ratio']:.2f} ×"
    if late := document.get("stalls"):
        loaded = late["loaded"]
        own = loaded.get("own_late_ms")
        yield (
            f"a timer of the event loop under {late['clients']} clients at {late['px']} px",
            f"p99 {loaded['late_ms']['p99']:.1f} ms late"
            + (f"; {own['p99']:.1f} ms but for waiting for a processor" if own else ""),
        )
    if "ready_seconds" in document:
        yield "from start to ready", f"{document['ready_seconds']:.0f} s"
    if memory := document.get("memory"):
        mb = memory["mb"]
        yield "memory of the server, of the worker", f"{mb['server']:.0f} MB, {mb['worker']:.0f} MB"


def fault(path: Path) -> str | None:
    """Why a file cannot be kept, if it cannot."""
    if not NAME.fullmatch(path.name):
        return f"the name has to be KIND-MACHINE.json, KIND one of {', '.join(KINDS)}"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if "machine" not in document:
            return "these are no figures: they name no machine"
        for _, table in of_kind(path.name.partition("-")[0], document):
            headed(document, table)
    except (OSError, ValueError) as error:
        return str(error)
    except (LookupError, TypeError, AttributeError) as error:
        return f"no table can be made of it: {type(error).__name__}: {error}"
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables, of files that came from elsewhere too; each is named as one that is kept.

    Raises:
        SystemExit: one is not there, is not named so, or no table can be made of it.
    """
    parser = argparse.ArgumentParser(prog="limner bench publish", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="figures of another machine, to keep")
    given = parser.parse_args(arguments)
    for path in given.files:
        if wrong := fault(path):
            parser.error(f"{path}: {wrong}")
    publish(*given.files)


if __name__ == "__main__":
    main()
