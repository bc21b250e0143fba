"""The load script: `limner bench load URL`. Drives any server that speaks one of four dialects.

Closed loop (`--clients`), open loop (`--rates`, requests by chance), or all at once (`--offline`);
writes figures as JSON, a table and a chart of latency against load. A mix that a dialect cannot say
is refused, and what is left out or may be ignored is told under the table.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import machine, mix, report, words
from bench.drive import Load
from bench.mix import Kind, Mix, Plan, Task
from bench.publish import kept, publish
from bench.speech import DIALECTS, Dialect
from bench.tally import Sample, summary

KEPT = 10_000  # connections at the most; a load must not wait for its own client


@dataclass(frozen=True, slots=True)
class Shape:
    """How the load is offered: exactly one of the three."""

    clients: int = 0
    rate: float = 0.0  # requests a second
    offline: int = 0

    def __str__(self) -> str:
        if self.offline:
            return f"{self.offline} at once"
        return f"{self.clients} clients" if self.clients else f"{self.rate:g}/s"


async def run(
    given: argparse.Namespace, dialect: Dialect, mixed: Mix
) -> tuple[Mix, list[dict[str, Any]]]:
    """Warm up, then offer each shape in turn."""
    limits = httpx2.Limits(max_connections=KEPT, max_keepalive_connections=KEPT)
    headers = {"Authorization": f"Bearer {given.key}"} if given.key else {}
    async with httpx2.AsyncClient(
        base_url=given.url, limits=limits, timeout=None, headers=headers, trust_env=False
    ) as client:
        mixed = await with_models(client, dialect, mixed)
        await warm_up(client, dialect, mixed, given)
        return mixed, [
            await one(client, dialect, Plan(mixed, given.seed, turn), shape, given)
            for turn, shape in enumerate(shapes(given))
        ]


async def with_models(client: httpx2.AsyncClient, dialect: Dialect, mixed: Mix) -> Mix:
    """The mix, its kinds that name no model asking for the first that the server lists for them."""
    tasks: set[Task] = {kind.task for kind in mixed.request if not kind.model}
    firsts = {task: await first(client, dialect, task) for task in tasks}
    return mix.plain(
        [
            kind.model_copy(update={"model": kind.model or firsts[kind.task]})
            for kind in mixed.request
        ]
    )


async def first(client: httpx2.AsyncClient, dialect: Dialect, task: Task) -> str:
    """The first model that a server lists: a row of `data`, of `models`, or of the document."""
    try:
        answer = await client.get(dialect.base + dialect.listing(task))
        said = answer.raise_for_status().json()
        rows = said if isinstance(said, list) else said.get("data") or said["models"]
        return str(rows[0].get("id") or rows[0]["name"])
    except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
        sys.exit(f"the server lists no models ({error!r:.100}); name one with --model")


async def warm_up(
    client: httpx2.AsyncClient, dialect: Dialect, mixed: Mix, given: argparse.Namespace
) -> None:
    """Every kind of request a few times, one after the other; what fails here fails the script."""
    if not given.warm_up:
        return
    for place, kind in enumerate(mixed.request):
        plan = Plan(mix.plain([kind.model_copy(update={"cancel": 0.0})]), given.seed, -1 - place)
        load = Load(client, dialect, plan, given.limit, lambda _: None)
        await load.closed(1, 0, given.warm_up)
        bad = [sample for sample in load.samples if not sample.good]
        if bad:
            sys.exit(f"warm-up of {kind.name}: {bad[0].error or bad[0].status}")


async def one(
    client: httpx2.AsyncClient,
    dialect: Dialect,
    plan: Plan,
    shape: Shape,
    given: argparse.Namespace,
) -> dict[str, Any]:
    """The figures of one shape of load."""
    with bar() as progress:
        total = shape.offline or given.count or None
        task = progress.add_task(str(shape), total=total, bad=0)

        def note(sample: Sample) -> None:
            failed = not (sample.good or sample.left)
            progress.update(task, advance=1, bad=progress.tasks[task].fields["bad"] + failed)

        load = Load(client, dialect, plan, given.limit, note)
        if shape.offline:
            await load.offline(shape.offline)
        elif shape.clients:
            await load.closed(shape.clients, given.seconds, given.count)
        else:
            await load.opened(shape.rate, given.seconds, given.seed)
    return {"shape": str(shape), "rate": shape.rate, **summary(load.samples, given.slo)}


def shapes(given: argparse.Namespace) -> Sequence[Shape]:
    """What is offered, in turn."""
    if given.offline:
        return [Shape(offline=given.offline)]
    if given.rates:
        return [Shape(rate=rate) for rate in given.rates]
    return [Shape(clients=clients) for clients in given.clients]


def bar() -> Progress:
    """A bar on stderr with what came and what did not."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} requests, {task.fields[bad]} bad"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def arguments() -> argparse.ArgumentParser:
    """What the script can be told."""
    parser = argparse.ArgumentParser(prog="limner bench load", description=__doc__)
    parser.add_argument("url", help="of the server, such as http://127.0.0.1:8484")
    parser.add_argument("--dialect", choices=list(DIALECTS), default="aimo")
    parser.add_argument("--base", help="where the API begins; default: limner's prefix")
    parser.add_argument("--mix", type=Path, help="a TOML file; default: one kind of request")
    parser.add_argument("--model", default="", help="for requests of the default mix")
    parser.add_argument("--steps", type=int, help="for requests of the default mix")
    parser.add_argument("--size", help="for requests of the default mix, such as 512x512")
    parser.add_argument("--key", default="", help="sent as a bearer token")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--clients", type=numbers(int), default=[1], help="closed loop, e.g. 1,4,8")
    how.add_argument("--rates", type=numbers(float), help="open loop, requests a second: 0.5,1,2")
    how.add_argument("--offline", type=int, help="so many requests at once")
    parser.add_argument("--seconds", type=float, help="of each load (30); 0: --count ends it")
    parser.add_argument("--count", type=int, default=0, help="requests of each closed loop")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds an answer may take")
    parser.add_argument("--warm-up", type=int, default=2, help="requests of each kind")
    parser.add_argument("--slo", type=float, help="seconds; default: three times the median")
    parser.add_argument(
        "--seed", type=int, default=0, help="of order, arrivals, prompts: not twice for one server"
    )
    parser.add_argument("--out", type=Path, help="write NAME.json, NAME.md and NAME.png there")
    parser.add_argument("--device", default="CPU", help="that the server paints on, for --publish")
    parser.add_argument("--publish", action="store_true", help="keep them, and write the tables")
    return parser


def numbers(kind: type[int] | type[float]) -> Any:
    """A reader of lists like "1,2,4"."""

    def read(text: str) -> list[int | float]:
        fault = argparse.ArgumentTypeError(f"{text!r} is no list of numbers above 0, such as 1,2,4")
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError:
            raise fault from None
        if not all(0 < value < math.inf for value in values):
            raise fault
        return values

    return read


def mix_of(given: argparse.Namespace) -> Mix:
    """The mix of the file, or the one kind that the flags describe."""
    if given.mix:
        return mix.read(given.mix)
    told: dict[str, Any] = {"name": given.size or "picture"}
    if given.model:
        told["model"] = given.model
    if given.steps is not None:
        told["steps"] = given.steps
    if given.size:
        told["width"], _, told["height"] = given.size.partition("x")
    return mix.plain([Kind.model_validate(told)])


def told(arguments_: Sequence[str] | None) -> tuple[argparse.Namespace, Mix]:
    """The flags, and the mix that they ask for.

    Raises:
        SystemExit: some of them go with none of the others, or the dialect cannot say the mix.
    """
    parser = arguments()
    given = parser.parse_args(arguments_)
    if given.count and (given.rates or given.offline):
        parser.error("--count is of closed loops, which --clients asks for")
    if given.count < 0 or (given.offline is not None and given.offline < 1):
        parser.error("--count and --offline are numbers of requests, and none is no load")
    if given.offline and given.seconds is not None:
        parser.error("--offline ends with its last answer; leave --seconds out")
    given.seconds = 30.0 if given.seconds is None else given.seconds
    if not given.seconds and not given.count:
        parser.error("one of --seconds and --count must end the load")
    if given.publish and given.out:
        parser.error("--publish has names of its own; leave --out out")
    if given.mix and (given.model or given.steps is not None or given.size):
        parser.error("--model, --steps and --size are of the default mix; --mix says its own")
    try:
        mixed = mix_of(given)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if wrong := words.faults(given.dialect, mixed):
        parser.error(
            f"this mix cannot be asked for in the words of {given.dialect}: {'; '.join(wrong)}"
        )
    return given, mixed


def written(document: Mapping[str, Any], out: Path) -> list[Path]:
    """The figures as JSON, as a table and as a chart: the files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    paths = [out.with_suffix(suffix) for suffix in (".json", ".md", ".png")]
    paths[0].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    paths[1].write_text(report.text(document) + "\n", encoding="utf-8")
    report.chart(document["loads"], paths[2])
    return paths


def main(arguments_: Sequence[str] | None = None) -> None:
    """Run the script."""
    given, mixed = told(arguments_)
    dialect = DIALECTS[given.dialect]
    if given.base is not None:
        dialect = replace(dialect, base=given.base.rstrip("/"))
    facts = machine.facts() | {"device": given.device}
    mixed, loads = asyncio.run(run(given, dialect, mixed))
    document = {
        "machine": facts,
        "url": given.url,
        "dialect": given.dialect,
        "mix": mixed.model_dump(exclude_unset=True),
        "notes": words.notes(given.dialect, mixed),
        "seed": given.seed,
        "loads": loads,
    }
    print(report.text(document))
    out = Path("out") / kept("load", given.device).name if given.publish else given.out
    paths = written(document, out) if out else []
    if not all(load["answered"] for load in loads):
        sys.exit("a load was not answered at all")
    if given.publish:
        publish(*paths)


if __name__ == "__main__":
    main()
