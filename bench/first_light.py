"""The figures of the shipped model on a CPU: a picture, the cost of serving, sharing, memory.

`python -m bench.first_light [--out FILE]` prints JSON. Everything that is compared is measured in
turns in one run, and given as the median; the numbers of a busy machine are still worth little.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
from rich.progress import track

from bench.machine import facts
from models.contract import AnyEvent, Finished, Image, Job
from models.families import loader
from models.studio import Studio
from models.warmup import warm_up
from server.settings.config import load
from server.settings.stock import model_spec

PROMPT = "a red circle on a blue background"
GENERATE = "/api/v1/image/generate"
READY = re.compile(r"limner is ready on (http://\S+)")
ROUNDS = 9
MIXES = {"8/10/12/14": (8, 10, 12, 14), "5/10/20/40": (5, 10, 20, 40)}
SOAK = 200


class Server:
    """A `limner serve` of its own with the shipped model."""

    def __init__(self) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-m", "server", "serve", "--port", "0", "--device", "cpu"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        found = (match for line in self.process.stdout if (match := READY.search(line)))
        if (match := next(found, None)) is None:
            raise SystemExit("the server did not get ready; `limner serve` says why")
        self.url = match[1]
        self.ready_seconds = time.perf_counter() - began
        self.client = httpx2.Client(base_url=self.url, timeout=120)

    def paint(self, steps: int, seed: int = 1) -> float:
        """Seconds of a request, as its client sees them."""
        body = {"model": "sketch", "prompt": PROMPT, "steps": steps, "seed": seed}
        began = time.perf_counter()
        answer = self.client.post(GENERATE, json=body | {"output_type": "file"})
        answer.raise_for_status()
        return time.perf_counter() - began

    def memory(self) -> dict[str, float]:
        """Resident MB of the server and of its worker."""
        server = psutil.Process(self.process.pid)
        workers = [
            child
            for child in server.children(recursive=True)
            if " ".join(child.cmdline()).startswith("limner worker")
        ]
        return {"server": megabytes(server), "worker": megabytes(workers[0])}


def megabytes(process: psutil.Process) -> float:
    """Resident memory."""
    return round(process.memory_info().rss / 1e6, 1)


@contextmanager
def serving() -> Iterator[Server]:
    """A server that is ready, ended afterwards."""
    server = Server()
    try:
        yield server
    finally:
        server.client.close()
        server.process.terminate()
        server.process.wait(30)


class Bare:
    """The studio alone, in this process: no HTTP, no sockets, no encoding."""

    def __init__(self) -> None:
        import torch

        config = load()
        torch.set_num_threads(config.worker.threads or 1)
        self.spec = model_spec(config.model[0])
        self.guidance = config.model[0].guidance
        self.steps = config.model[0].steps
        self.model = loader(self.spec.family)(self.spec, "cpu")
        warm_up(self.model, self.spec)

    def paint(self, steps: int, seed: int = 1) -> float:
        """Seconds of one picture."""
        events: list[AnyEvent] = []
        studio = Studio(events.append)
        job = Job(
            id="bare",
            model=self.spec.id,
            task="generate",
            prompt=PROMPT,
            width=self.spec.width,
            height=self.spec.height,
            steps=steps,
            guidance=self.guidance,
            seeds=(seed,),
        )
        began = time.perf_counter()
        studio.start(self.model, job, 0, list[Image](), None)
        while len(studio):
            studio.tick()
        assert isinstance(events[-1], Finished)
        return time.perf_counter() - began


def overhead(server: Server, bare: Bare) -> dict[str, float]:
    """Served against bare, in turns."""
    pairs = [
        (bare.paint(bare.steps, seed), server.paint(bare.steps, seed))
        for seed in track(range(ROUNDS * 2), "served against bare", transient=True)
    ]
    return {
        "steps": bare.steps,
        "bare_seconds": rounded(pair[0] for pair in pairs),
        "served_seconds": rounded(pair[1] for pair in pairs),
        "overhead_ms": round(1e3 * statistics.median(b - a for a, b in pairs), 1),
    }


def sharing(server: Server, steps: Sequence[int]) -> dict[str, float]:
    """Four at once against one by one, in turns; and what company costs the shortest."""
    one_by_one: list[float] = []
    at_once: list[float] = []
    shortest_alone: list[float] = []
    shortest_shared: list[float] = []
    with ThreadPoolExecutor(len(steps)) as pool:
        for _ in track(range(ROUNDS), f"sharing {steps}", transient=True):
            alone = [server.paint(count) for count in steps]
            one_by_one.append(sum(alone))
            shortest_alone.append(alone[0])
            began = time.perf_counter()
            shared = list(pool.map(server.paint, steps))
            at_once.append(time.perf_counter() - began)
            shortest_shared.append(shared[0])
    return {
        "one_by_one_seconds": rounded(one_by_one),
        "at_once_seconds": rounded(at_once),
        "ratio": rounded(b / a for a, b in zip(one_by_one, at_once, strict=True)),
        "shortest_ratio": rounded(
            b / a for a, b in zip(shortest_alone, shortest_shared, strict=True)
        ),
    }


def soak(server: Server) -> dict[str, object]:
    """Memory before and after many requests, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(server.paint, [4] * 40))  # allocators settle first
        before = server.memory()
        seeds = track(range(SOAK), "soak", transient=True)
        list(pool.map(lambda seed: server.paint(4, seed), seeds))
    after = server.memory()
    growth = {name: round(after[name] - before[name], 1) for name in before}
    return {"requests": SOAK, "mb": after, "growth_mb": growth}


def rounded(values: Iterator[float] | Sequence[float]) -> float:
    """The median, to a thousandth."""
    return round(statistics.median(values), 3)


def measure() -> dict[str, object]:
    """Everything."""
    bare = Bare()
    with serving() as server:
        return {
            "machine": facts(),
            "ready_seconds": round(server.ready_seconds, 2),
            "picture": overhead(server, bare),
            "sharing": {name: sharing(server, steps) for name, steps in MIXES.items()},
            "memory": soak(server),
        }


def main() -> None:
    """Print the figures, and write them to a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(measure(), indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
