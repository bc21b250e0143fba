"""The AIMO dialect over real sockets: leaving, slow reading, framing, bodies that are too large."""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import httpx2
import pytest
import uvicorn

from server.dialects import aimo
from server.edge import delivery
from server.edge.gate import Guard, Journal
from server.images.pictures import Picture
from server.jobs.intake import Draft
from server.jobs.service import Admitted, Painted, Progress, Result, Update
from server.settings.tables import LimitsTable
from tests.server.dialects.easel import ASK, Easel, front, result_of

LIMITS = LimitsTable(body_bytes=100_000, image_bytes=60_000)
STEP = 0.05  # seconds
LARGE = bytes(range(256)) * 16_000  # 4 MB


class SlowEasel(Easel):
    """Takes 100 steps per image (seed 1), or none (any other seed); says when a client was left."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.left = threading.Event()
        self.steps = 0

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        self.entered.set()
        try:
            yield self._slowly(draft)
        finally:
            self.left.set()

    async def _slowly(self, draft: Draft) -> AsyncIterator[Update]:
        painted: list[Painted] = []
        yield Admitted("img-1", 1, ())
        for i in range(draft.n):
            for step in range(100 if draft.seed == 1 else 0):
                await asyncio.sleep(STEP)
                self.steps += 1
                yield Progress(i, step + 1, 100, Picture(LARGE, "png", 9, 9) if step else None)
            painted.append(Painted(i, i, Picture(LARGE, "png", 1000, 1000)))
            yield painted[-1]
        result: Result = result_of(draft, [*painted])
        yield result


@pytest.fixture
def easel() -> SlowEasel:
    return SlowEasel()


@pytest.fixture
def port(easel: SlowEasel) -> Iterator[int]:
    app = Journal(Guard(aimo.build(front(easel))))
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def connect(port: int, body: dict[str, Any], receive_buffer: int = 0) -> socket.socket:
    """Send a request by hand, and leave the reading to the caller."""
    text = json.dumps(body).encode()
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.connect(("127.0.0.1", port))
    raw.settimeout(5)
    raw.sendall(
        b"POST /image/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(text), text)
    )
    return raw


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_cancels_within_a_step(port: int, easel: SlowEasel, stream: bool):
    with closing(connect(port, {**ASK, "stream": stream, "seed": 1})):
        assert easel.entered.wait(5)
        time.sleep(STEP * 2)
        assert not easel.left.is_set()
    assert easel.left.wait(STEP * 4)
    steps = easel.steps
    time.sleep(STEP * 3)
    assert easel.steps == steps
    assert steps < 20


def test_a_reader_that_does_not_read_is_cut(
    port: int, easel: SlowEasel, monkeypatch: pytest.MonkeyPatch
):
    patient = delivery.EventStream.__init__
    monkeypatch.setattr(
        delivery.EventStream,
        "__init__",
        lambda self, send, ping_seconds, send_seconds: patient(self, send, send_seconds=0.3),
    )
    with closing(connect(port, {**ASK, "stream": True, "seed": 1}, receive_buffer=4096)):
        assert easel.left.wait(5)
    assert easel.steps < 90


def test_the_framing_of_a_stream(port: int):
    lines: list[str] = []
    url = f"http://127.0.0.1:{port}/image/generate"
    with httpx2.stream("POST", url, json={**ASK, "n": 2, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert len(answer.headers["x-request-id"]) == 16
        lines = list(answer.iter_lines())
    assert lines[1::2] == [""] * 4
    assert lines[-2] == "data: [DONE]"
    said = [json.loads(line.removeprefix("data: ")) for line in lines[:-2:2]]
    assert [document["status"] for document in said] == ["processing", "processing", "completed"]
    url = said[-1]["images"][1]["data_url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == LARGE


def test_a_large_answer_does_not_stall_the_others(port: int):
    url = f"http://127.0.0.1:{port}/image/generate"
    waits: list[float] = []
    done = threading.Event()

    def probe() -> None:
        with httpx2.Client() as client:
            while not done.is_set():
                started = time.perf_counter()
                assert client.get(url).status_code == 405
                waits.append(time.perf_counter() - started)

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        answer = httpx2.post(url, json={**ASK, "n": 10}, timeout=30)
    finally:
        done.set()
        prober.join()
    assert int(answer.headers["content-length"]) == len(answer.content) > 54_000_000
    assert len(answer.json()["images"]) == 10
    assert max(waits) < 0.5  # generous: client and server share an interpreter here


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit(port: int, declared: bool):
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(100_000)

    answer = httpx2.post(
        f"http://127.0.0.1:{port}/image/generate",
        content=bytes(4_000_000) if declared else pieces(),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "payload_too_large"


def test_a_client_that_leaves_while_it_sends(port: int, easel: SlowEasel):
    with closing(socket.create_connection(("127.0.0.1", port))) as raw:
        raw.sendall(
            b"POST /image/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
        )
    time.sleep(0.1)
    assert httpx2.get(f"http://127.0.0.1:{port}/x").status_code == 404
    assert not easel.entered.is_set()


def test_foreign_pages_are_refused(port: int):
    url = f"http://127.0.0.1:{port}/image/generate"
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = httpx2.post(url, json=ASK, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "forbidden"
