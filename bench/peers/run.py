"""limner beside other ways to serve the same pipeline: `limner bench peers`.

All servers are started, each on the same one core with one thread, with the shipped model; the load
goes to one after the other, in rounds, so that what the machine does meanwhile meets all of them,
and those whose turn it is not stand still.
Those whose library is not installed are left out and named.
"""

import argparse
import asyncio
import base64
import importlib.util
import io
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from PIL import Image
from rich.progress import track

from bench import machine, mix
from bench.drive import Load
from bench.mix import Kind, Mix, Plan
from bench.peers import account
from bench.publish import kept, publish
from bench.running import ROOT, NotReady, Server, is_ready, limner, running
from bench.speech import DIALECTS, Dialect
from bench.tally import Sample, quantiles

CLIENTS = 8
FOLDER = ROOT / "models" / "demo" / "sketch"
MIX = ROOT / "bench" / "mixes" / "short-and-long.toml"
BATCH = 8  # as the shipped configuration has it
OPENAI = DIALECTS["openai"]
PEER = Dialect("", OPENAI.ask, OPENAI.read)
# The shipped model as configs/demo.toml has it, with or without company in its forwards.
CONFIG = """
[worker]
device = "cpu"
threads = 1

[[model]]
id = "sketch"
family = "sd"
path = "{folder}"
native = ["128x128"]
default_size = "128x128"
steps = 12
steps_range = [1, 50]
guidance = 4.0
max_batch = {batch}
"""


@dataclass(slots=True)
class Contestant:
    """One way to serve the pipeline, and what was seen of it."""

    name: str
    dialect: Dialect
    command: Callable[[int], Sequence[str]]
    needs: str = ""  # a library
    rounds: list[list[Sample]] = field(default_factory=list[list[Sample]])
    cpu_seconds: list[float] = field(default_factory=list[float])  # of all its processes, by round
    levels_off: int = 0  # of 255, at the most, from limner's picture of the same wish

    @property
    def there(self) -> bool:
        """Whether what it needs is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def contestants(folder: Path) -> list[Contestant]:
    """All of them; `folder` is where their configurations go."""

    def ours(name: str, batch: int) -> Contestant:
        config = folder / f"batch-{batch}.toml"
        config.write_text(CONFIG.format(folder=FOLDER, batch=batch), encoding="utf-8")
        return Contestant(name, OPENAI, lambda port: limner(port, "--config", str(config)))

    def peer(name: str, module: str, needs: str = "", batch: int = 1) -> Contestant:
        said = ["--folder", str(FOLDER), "--batch", str(batch)]
        command = [sys.executable, "-m", f"bench.peers.{module}", *said, "--port"]
        return Contestant(name, PEER, lambda port: [*command, str(port)], needs)

    return [
        ours("limner", BATCH),
        ours("limner, nothing merged", 1),
        peer("diffusers behind a lock", "looped"),
        peer("diffusers, a copy per request", "scoped"),
        peer("LitServe", "with_litserve", "litserve"),
        peer("LitServe, batched", "with_litserve", "litserve", BATCH),
        peer("Mosec", "with_mosec", "mosec"),
        peer("Mosec, batched", "with_mosec", "mosec", BATCH),
    ]


def ready(contestant: Contestant) -> Callable[[httpx2.Client], bool]:
    """What tells whether it can paint: limner says so, of the others a picture is asked."""
    if contestant.dialect is OPENAI:
        return is_ready
    return lambda client: bool(picture(client, contestant, seed=0).size)


def picture(client: httpx2.Client, contestant: Contestant, seed: int) -> np.ndarray[Any, Any]:
    """The pixels of a small wish."""
    kind = Kind(name="check", model="sketch", width=128, height=128, steps=4, guidance=4.0)
    ask = contestant.dialect.ask(mix.Planned(0, kind, seed, False))
    answer = client.post(contestant.dialect.base + ask.path, json=ask.json).raise_for_status()
    data = base64.b64decode(answer.json()["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


async def loaded(server: Server, contestant: Contestant, plan: Plan, count: int) -> list[Sample]:
    """A closed loop of so many requests."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=CLIENTS)
    async with httpx2.AsyncClient(
        base_url=server.url, limits=limits, timeout=None, trust_env=False
    ) as client:
        load = Load(client, contestant.dialect, plan, 600, lambda _: None)
        await load.closed(CLIENTS, 0, count)
    return load.samples


def measure(
    present: Sequence[Contestant], mixed: Mix, rounds: int, count: int, cores: Sequence[int]
) -> None:
    """Fill in what is seen of each.

    Raises:
        NotReady: one of them is not in time.
    """
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(each.command, ready(each), environment=own, cores=cores))
            for each in track(present, "starting", transient=True)
        ]
        pairs = list(zip(servers, present, strict=True))
        wanted = picture(servers[0].client, present[0], seed=7)
        for server, each in pairs:
            each.levels_off = int(np.abs(picture(server.client, each, seed=7) - wanted).max())
            asyncio.run(loaded(server, each, Plan(mixed, 0), 2 * CLIENTS))
        for turn in track(range(rounds), "rounds", transient=True):
            for server, each in pairs[turn % len(pairs) :] + pairs[: turn % len(pairs)]:
                with ExitStack() as others:  # some take a tenth of the core when nobody asks
                    for other in servers:
                        if other is not server:
                            others.enter_context(other.held())
                    before, plan = server.cpu_seconds(), Plan(mixed, turn + 1)
                    each.rounds.append(asyncio.run(loaded(server, each, plan, count)))
                    each.cpu_seconds.append(server.cpu_seconds() - before)


def figures(each: Contestant, kinds: Sequence[str]) -> dict[str, Any]:
    """What was seen of one: the median of the rounds' rates; latencies of all rounds together."""
    samples = [sample for one in each.rounds for sample in one]
    rates = [rate(one) for one in each.rounds]
    spent = [
        cpu / max(1, images(one)) for cpu, one in zip(each.cpu_seconds, each.rounds, strict=True)
    ]
    return {
        "name": each.name,
        "images_per_second": round(statistics.median(rates), 3),
        "rounds": [round(value, 3) for value in rates],
        "cpu_seconds_per_image": round(statistics.median(spent), 4),
        "errors": sum(not sample.good for sample in samples),
        "levels_off": each.levels_off,
        "latency": {
            kind: quantiles([s.latency for s in samples if s.kind == kind and s.good])
            for kind in kinds
        },
    }


def rate(samples: Sequence[Sample]) -> float:
    """Images a second of one round, from its first request to its last answer."""
    return images(samples) / max(sample.done for sample in samples)


def images(samples: Sequence[Sample]) -> int:
    """That came."""
    return sum(sample.images for sample in samples if sample.good)


def options() -> argparse.ArgumentParser:
    """What the script can be told."""
    last = (os.cpu_count() or 1) - 1
    parser = argparse.ArgumentParser(prog="limner bench peers", description=__doc__)
    parser.add_argument("--mix", type=Path, default=MIX, help="a TOML file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=84, help="requests of each in a round")
    parser.add_argument("--core", type=int, default=last, help="the one that all servers share")
    parser.add_argument("--only", default="", help="parts of names, with commas between")
    parser.add_argument("--out", type=Path, help="write NAME.json, NAME.md and NAME.png there")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = options()
    parser.add_argument("--publish", action="store_true", help="keep them, and write the tables")
    given = parser.parse_args(arguments)
    try:
        mixed = mix.read(given.mix)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    asked = mix.plain([kind.model_copy(update={"model": "sketch"}) for kind in mixed.request])
    if (others := {*range(os.cpu_count() or 1)} - {given.core}) and psutil.LINUX:
        psutil.Process().cpu_affinity(sorted(others))  # the load must not cost those who bear it
    parts = [part for part in given.only.split(",") if part]
    with tempfile.TemporaryDirectory(prefix="limner-peers-") as folder:
        wanted = [
            each
            for each in contestants(Path(folder))
            if not parts or any(part in each.name for part in parts)
        ]
        absent = [each.name for each in wanted if not each.there]
        present = [each for each in wanted if each.there]
        facts = machine.facts()
        try:
            measure(present, asked, given.rounds, given.count, [given.core])
        except NotReady as error:
            raise SystemExit(str(error)) from None
    kinds = [kind.name for kind in asked.request]
    rows = [figures(each, kinds) for each in present]
    document = {
        "machine": facts,
        "versions": {each.needs: machine.version(each.needs) for each in present if each.needs},
        "clients": CLIENTS,
        "requests_per_round": given.count,
        "cores_of_each": 1,
        "mix": mixed.model_dump(exclude_unset=True),
        "not_installed": absent,
        "contestants": rows,
    }
    text = account.table(document)
    print(text)
    out = given.out or Path("out") / kept("peers", "CPU").name
    if given.publish or given.out:
        out.parent.mkdir(exist_ok=True)
        out.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n")
        out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
        account.chart(document, out.with_suffix(".png"))
    if absent:
        print(f"left out, for their libraries are not installed: {', '.join(absent)}")
    if wrong := [row["name"] for row in rows if row["levels_off"] > 1]:
        sys.exit(f"not the same pictures: {', '.join(wrong)}")
    if any(row["errors"] for row in rows if row["name"] == account.OURS):
        sys.exit("limner did not answer all of them")
    if given.publish:
        publish(*(out.with_suffix(suffix) for suffix in (".json", ".md", ".png")))


if __name__ == "__main__":
    main()
