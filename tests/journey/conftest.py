"""The real command in a process of its own, listening on a real port of this machine."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest
from huggingface_hub import constants

from server.cli import app
from tests.journey.fakehub import NEEDED, NEEDLESS, Done, Hub, Repo

ROOT = Path(__file__).parents[2]
DATA = tempfile.TemporaryDirectory(prefix="limner-data-")  # of all servers that name no other
READY = re.compile(r"limner is ready on (http://\S+)")


class Server:
    """A running `limner serve`."""

    def __init__(
        self, *flags: str, environment: dict[str, str] | None = None, group: bool = False
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0", *flags],
            cwd=ROOT,
            env=os.environ
            | {"NO_COLOR": "1", "COLUMNS": "200", "LIMNER_SERVER__DATA_DIR": DATA.name}
            | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=group,
        )
        self.log = ""
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line
            if match := READY.search(line):
                self.url = match[1]
                self._ready.set()
        self._ready.set()

    def wait_ready(self, seconds: float = 60) -> "Server":
        assert self._ready.wait(seconds), self.log
        assert self.url, self.log
        return self

    def client(self, **options: object) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, **options)

    def post(self, path: str, **body: object) -> httpx2.Response:
        with self.client() as client:
            return client.post(path, json=body)

    def wait_until_ready_again(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)

    def wait_for_log(self, words: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    @property
    def worker(self) -> psutil.Process:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if child.cmdline()[:1] and child.cmdline()[0].startswith("limner worker"):
                return child
        raise AssertionError(f"no worker: {self.log}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(how)
        return self.process.wait(60)

    def close(self) -> None:
        """End whatever is left of it."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serving(
    *flags: str, environment: dict[str, str] | None = None, group: bool = False
) -> Iterator[Server]:
    server = Server(*flags, environment=environment, group=group)
    try:
        yield server.wait_ready()
    finally:
        server.close()


@pytest.fixture(scope="session", name="serving")
def serving_fixture() -> Callable[..., AbstractContextManager[Server]]:
    """`with serving("--flag", …, environment={…}) as server:` starts one of one's own."""
    return serving


@pytest.fixture(scope="session")
def toy_config() -> Path:
    return ROOT / "configs" / "toy.toml"


@pytest.fixture(scope="module")
def toy(toy_config: Path) -> Iterator[Server]:
    """A server with the toy model, shared by the tests of a module."""
    with serving("--config", str(toy_config)) as server:
        yield server


@pytest.fixture
def own_toy(toy_config: Path) -> Iterator[Server]:
    """A server with the toy model, for one test that is hard on it."""
    with serving("--config", str(toy_config)) as server:
        yield server


# -- Commands, and the hub they fetch from ---------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "cache")
    hub.repos["ann/tiny"] = Repo({**NEEDED, **NEEDLESS})
    yield hub
    hub.close()


@pytest.fixture
def limner(hub: Hub, monkeypatch, capsys) -> Callable[..., Done]:
    """Run the command against the hub, in this process: that is quicker."""
    for name, value in hub.constants.items():
        monkeypatch.setattr(constants, name, value)  # the library has read the environment already
    monkeypatch.setenv("LIMNER_SERVER__DATA_DIR", str(hub.data))

    def run(*words: str) -> Done:
        code = 0
        try:
            app(list(words), standalone_mode=False)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            print("" if end.code == code else end.code, file=sys.stderr)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def process(hub: Hub) -> Callable[..., Done]:
    """Run the command against the hub, as its users do."""

    def run(*words: str, **more: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "server", *words],
            cwd=ROOT,
            env=os.environ | hub.environment | more,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run
