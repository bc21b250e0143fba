"""What serving costs beside painting, with the shipped model: `limner bench serving`.

A picture served against the same painted bare, as many as it can against bare batches, sharing,
listeners, stalls, memory. All that is compared is measured in turns in one run and given as the
median; what a busy machine says is still worth little, so CPU seconds stand beside the others.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import psutil
from rich.progress import track

from bench import mix
from bench.bare import Bare
from bench.distraction import distracted, stalls
from bench.drive import Load
from bench.machine import facts
from bench.mix import Kind, Plan
from bench.publish import kept, publish
from bench.running import NotReady, Server, limner, running
from bench.speech import DIALECTS, timing
from bench.subject import PROMPT
from bench.tally import Sample, quantiles

Figures: TypeAlias = dict[str, Any]

GENERATE = "/aimo/api/v1/image/generate"
WAYS = {"1024 px, PNG": (1024, "png"), "1024 px, JPEG": (1024, "jpeg"), "512 px, PNG": (512, "png")}
MIXES = {"8/10/12/14": (8, 10, 12, 14), "5/10/20/40": (5, 10, 20, 40)}
CLIENTS = 16  # twice as many as places, so that none is empty while the next picture is asked for
BATCHES = 4  # bare ones in a row
SOAK = 200


@dataclass(frozen=True, slots=True)
class Session:
    """What all figures are taken from."""

    server: Server
    bare: Bare
    rounds: int

    def ask(self, steps: int, seed: int = 1, px: int = 512, kind: str = "png") -> httpx2.Response:
        """A picture as a file; each seed has a prompt of its own, for those that were read are
        remembered."""
        size = {"width": px, "height": px, "output_format": kind, "output_type": "file"}
        prompt = f"{PROMPT} {seed}"
        body = {"model": "sketch", "prompt": prompt, "steps": steps, "seed": seed, **size}
        return self.server.client.post(GENERATE, json=body).raise_for_status()

    def paint(self, steps: int, seed: int = 1) -> float:
        """Seconds of a request, as its client sees them."""
        began = time.perf_counter()
        self.ask(steps, seed)
        return time.perf_counter() - began

    def processes(self) -> dict[str, psutil.Process]:
        """The server, and the worker that paints."""
        first, *others = self.server.family()
        (worker,) = (each for each in others if "limner worker" in " ".join(each.cmdline()))
        return {"server": first, "worker": worker}


# -- One picture ----------------------------------------------------------------------------------


def picture(session: Session) -> Figures:
    """Served against bare, at each size and in each format."""
    return {name: overhead(session, *way) for name, way in WAYS.items()}


def overhead(session: Session, px: int, kind: str) -> Figures:
    """Served against bare, in turns, and what the difference went to."""
    bare, steps = session.bare, session.bare.steps
    pairs: list[Mapping[str, float]] = []
    session.ask(steps, 0, px, kind)
    process = session.processes()["server"]
    calculated = busy([process])
    for seed in track(range(6 * session.rounds), f"{px} px {kind}", transient=True):
        # What tuning saves would hide as much of what serving costs.
        alone = bare.paint(steps, seed, enlarge=True, tuned=True)
        began = time.perf_counter()
        said = timing(session.ask(steps, seed, px, kind).headers["server-timing"])
        served = time.perf_counter() - began
        parts = {"queue": said["queue"], "encode": said["encode"], "http": served - said["total"]}
        more = {"served": served, "bare": alone, "overhead": served - alone}
        pairs.append(more | parts | {"paint": said["paint"] - alone})
    calculated = busy([process]) - calculated
    medians = {name: statistics.median(each[name] for each in pairs) for name in pairs[0]}
    differences = quantiles([each["overhead"] for each in pairs])
    return {
        "steps": steps,
        "pairs": len(pairs),
        "bare_seconds": round(medians["bare"], 4),
        "served_seconds": round(medians["served"], 4),
        "overhead_ms": {name: ms(differences[name]) for name in ("p50", "p95")},
        "of_which_ms": {name: ms(medians[name]) for name in ("queue", "paint", "encode", "http")},
        "server_cpu_ms": ms(calculated / len(pairs)),
    }


# -- As many as it can ----------------------------------------------------------------------------


def saturation(session: Session) -> Figures:
    """Images per second of a full server against bare batches of the same size, in turns."""
    bare, together = session.bare, cap(session)
    rounds = track(range(session.rounds), "saturation", transient=True)
    asyncio.run(full(session, 2 * CLIENTS, -1))
    rows: list[Mapping[str, float]] = []
    worker, own = session.processes()["worker"], psutil.Process()
    for seed in rounds:
        before = busy([own])
        took = sum(bare.paint(bare.steps, seed + i, together) for i in range(BATCHES))
        spent = busy([own]) - before
        tuned = sum(bare.paint(bare.steps, seed + i, together, tuned=True) for i in range(BATCHES))
        before = busy([worker])
        samples = asyncio.run(full(session, 6 * CLIENTS, seed))
        theirs = (busy([worker]) - before) / len(samples)
        painted = BATCHES * together
        rates = {"bare": painted / took, "tuned": painted / tuned, "served": steady(samples)}
        rows.append(rates | {"cpu": spent / painted / theirs})
    return {
        "clients": CLIENTS,
        "steps": bare.steps,
        "canvases": together,
        "bare_images_per_second": rounded(each["bare"] for each in rows),
        "served_images_per_second": rounded(each["served"] for each in rows),
        "served_to_bare": rounded(each["served"] / each["bare"] for each in rows),
        "served_to_tuned": rounded(each["served"] / each["tuned"] for each in rows),
        "cpu_of_bare_to_worker": rounded(each["cpu"] for each in rows),
    }


def cap(session: Session) -> int:
    """How many pictures of that size the worker puts into one forward at the most."""
    spec = session.bare.spec
    wanted = {"kind": "forward", "model": spec.id, "size": f"{spec.width}x{spec.height}"}
    (found,) = session.server.metrics("limner_batch_cap", **wanted)
    return round(found)


async def full(session: Session, count: int, turn: int) -> list[Sample]:
    """A closed loop of pictures at the size that is painted."""
    px = session.bare.spec.width
    kind = Kind(name="one", model="sketch", width=px, height=px, steps=session.bare.steps)
    async with httpx2.AsyncClient(base_url=session.server.url, timeout=None) as client:
        plan = Plan(mix.plain([kind]), 0, turn)
        load = Load(client, DIALECTS["aimo"], plan, 600, lambda _: None)
        await load.closed(CLIENTS, 0, count)
    return load.samples


def steady(samples: Sequence[Sample]) -> float:
    """Images per second between filling up and running dry."""
    ends = sorted(sample.done for sample in samples)[CLIENTS:-CLIENTS]
    return (len(ends) - 1) / (ends[-1] - ends[0])


# -- Sharing --------------------------------------------------------------------------------------


def sharing(session: Session) -> Figures:
    """Four at once against one by one, for each mix of steps."""
    return {name: shared(session, steps) for name, steps in MIXES.items()}


def shared(session: Session, steps: Sequence[int]) -> Figures:
    """Four at once against one by one, in turns; and what company costs the shortest."""
    rows: list[tuple[float, float, float, float]] = []
    seeds = itertools.count(1000 * sum(steps))  # no prompt comes twice
    with ThreadPoolExecutor(len(steps)) as pool:
        for _ in track(range(session.rounds), f"sharing {steps}", transient=True):
            alone = [session.paint(count, next(seeds)) for count in steps]
            began = time.perf_counter()
            together = list(pool.map(session.paint, steps, seeds))
            rows.append((sum(alone), time.perf_counter() - began, alone[0], together[0]))
    return {
        "one_by_one_seconds": rounded(row[0] for row in rows),
        "at_once_seconds": rounded(row[1] for row in rows),
        "ratio": rounded(row[1] / row[0] for row in rows),
        "shortest_ratio": rounded(row[3] / row[2] for row in rows),
    }


# -- Memory ---------------------------------------------------------------------------------------


def memory(session: Session) -> Figures:
    """Resident memory before and after many requests, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(session.paint, [4] * 40))  # allocators settle first
        before = resident(session)
        seeds = track(range(SOAK), "soak", transient=True)
        list(pool.map(lambda seed: session.paint(4, seed), seeds))
    after = resident(session)
    growth = {name: round(after[name] - before[name], 1) for name in before}
    return {"requests": SOAK, "mb": after, "growth_mb": growth}


def resident(session: Session) -> dict[str, float]:
    """MB of the server and of its worker."""
    found = session.processes().items()
    return {name: round(each.memory_info().rss / 1e6, 1) for name, each in found}


# -- All of it ------------------------------------------------------------------------------------

MEASURES: Mapping[str, Callable[[Session], Figures]] = {
    "picture": picture,
    "saturation": saturation,
    "sharing": sharing,
    "listeners": lambda session: distracted(session.server, session.rounds),
    "memory": memory,
}


def busy(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds of all their threads so far."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def ms(seconds: float) -> float:
    """To a tenth."""
    return round(seconds * 1000, 1)


def rounded(values: Iterable[float]) -> float:
    """The median, to a thousandth."""
    return round(statistics.median(values), 3)


@contextmanager
def session(rounds: int) -> Iterator[Session]:
    """A server that is ready, and the same model bare."""
    bare = Bare()
    with running(limner) as server:
        yield Session(server, bare, rounds)


def measure(names: Sequence[str], rounds: int) -> Figures:
    """The figures of these names."""
    figures: Figures = {"machine": facts(), "rounds": rounds}
    own = [name for name in names if name in MEASURES]
    if own:
        with session(rounds) as here:
            figures["ready_seconds"] = round(here.server.ready_seconds, 2)
            figures |= {name: MEASURES[name](here) for name in own}
    if "stalls" in names:
        figures["stalls"] = stalls(seconds=2.0 * rounds)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, and write them to a file if asked."""
    known = [*MEASURES, "stalls"]
    parser = argparse.ArgumentParser(prog="limner bench serving", description=__doc__)
    parser.add_argument("--only", default=",".join(known), help="some of these, with commas")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="where the figures go (JSON)")
    parser.add_argument("--publish", action="store_true", help="keep them, and write the tables")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    if given.publish and {*names} != {*known}:
        parser.error("--publish wants all of it; leave --only out")
    if unknown := sorted({*names} - {*known}):
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    try:
        text = json.dumps(measure(names, given.rounds), indent=2)
    except NotReady as error:
        raise SystemExit(str(error)) from None
    print(text)
    if out := kept("serving", "CPU") if given.publish else given.out:
        out.write_text(text + "\n", encoding="utf-8")
    if given.publish:
        publish()


if __name__ == "__main__":
    main()
