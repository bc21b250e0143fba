"""A server in a process of its own for as long as it is measured, limner's or another.

What it says goes into a file, whose end is shown if it does not get ready.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0  # seconds in which a server is to get ready, and then to answer
LAST_WORDS = 2000  # characters of what a server said that are shown when it failed

Ready: TypeAlias = Callable[[httpx2.Client], bool]


class NotReady(Exception):
    """A server did not get ready; the text says which, and its last words."""


@dataclass(slots=True)
class Server:
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    url: str
    client: httpx2.Client
    ready_seconds: float

    def family(self) -> list[psutil.Process]:
        """Its processes, the first of them ahead."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Of all its processes so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self.family())

    def metrics(self, name: str, **labels: str) -> list[float]:
        """The values of one of a limner's metrics that have these labels."""
        told = self.client.get("/metrics").raise_for_status().text
        families = text_string_to_metric_families(told)
        samples = [each for family in families for each in family.samples]
        return [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile it stands still: none of its processes gets any time."""
        family = self.family()
        for each in family:
            each.suspend()
        try:
            yield
        finally:
            for each in reversed(family):
                each.resume()


def limner(port: int, *flags: str, device: str = "cpu") -> list[str]:
    """The command of a limner from this checkout, with the shipped model unless told else; without
    a device, its configuration names one."""
    painting = ["--device", device] if device else []
    return [sys.executable, "-m", "server", "serve", "--port", str(port), *painting, *flags]


def is_ready(client: httpx2.Client) -> bool:
    """Whether a limner can paint."""
    return client.get("/readyz").status_code == 200


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(
    command: Callable[[int], Sequence[str]],
    ready: Ready = is_ready,
    *,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] = (),
    patience: float = PATIENCE,
) -> Iterator[Server]:
    """A server that is ready; it, and what it started, are ended afterwards.

    Args:
        command: what starts it, for a port.
        ready: asked again and again until it is true; errors of the connection are as good as no.
        cores: the only ones that it may use; all of them if none are named.
        patience: seconds.

    Raises:
        NotReady: it was not in time.
    """
    began, port = time.perf_counter(), free_port()
    with terminable(), tempfile.TemporaryDirectory(prefix="limner-bench-") as folder:
        said = Path(folder) / "said"
        own = {"LIMNER_SERVER__DATA_DIR": folder} | dict(environment or {})
        with said.open("wb") as log:
            process = subprocess.Popen(
                command(port), cwd=ROOT, env=os.environ | own, stdout=log, stderr=log
            )
        if cores:
            psutil.Process(process.pid).cpu_affinity(list(cores))
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, timeout=patience, trust_env=False) as client:
            try:
                _wait(process, client, ready, said, began + patience)
                yield Server(process, url, client, time.perf_counter() - began)
            finally:
                _end(process)


@contextmanager
def terminable() -> Iterator[None]:
    """Meanwhile SIGTERM ends this process as Ctrl-C does: what was started is ended first. To be
    called in the main thread."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(
    process: subprocess.Popen[bytes],
    client: httpx2.Client,
    ready: Ready,
    said: Path,
    deadline: float,
) -> None:
    while process.poll() is None and time.perf_counter() < deadline:
        try:
            if ready(client):
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    words = said.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]
    raise NotReady(f"{process.args} did not get ready:\n{words}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server in good order, then whatever it left behind."""
    try:
        others = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        others = []
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(others, 5)
    for each in left:
        each.kill()
    psutil.wait_procs(left, 5)
