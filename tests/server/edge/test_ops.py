"""The probes."""

import asyncio

import httpx2
import msgspec
import pytest
from fastapi import FastAPI

from server.edge import ops
from server.jobs.status import ModelStatus, Status, WorkerStatus

STATUS = Status(
    1.5, (WorkerStatus("auto", "cpu", "ready"),), (ModelStatus("sketch", "resident", bytes=9),)
)


def ask(path: str, state: ops.Readiness, method: str = "GET") -> httpx2.Response:
    async def talk() -> httpx2.Response:
        app = FastAPI()
        app.include_router(ops.build(lambda: state, lambda: STATUS))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    return asyncio.run(talk())


@pytest.mark.parametrize("ready", [True, False])
def test_alive_whatever_the_worker_does(ready: bool):
    answer = ask("/healthz", ops.Readiness(ready, () if ready else ("loading",)))
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_ready():
    answer = ask("/readyz", ops.Readiness(True))
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert answer.headers["cache-control"] == "no-store"


def test_ready_says_what_is_amiss_all_the_same():
    answer = ask("/readyz", ops.Readiness(True, ("no rows are written",)))
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "reasons": ["no rows are written"]}


def test_not_ready_says_why():
    answer = ask("/readyz", ops.Readiness(False, ("sketch is loading",)))
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reasons": ["sketch is loading"]}
    assert answer.headers["retry-after"] == "1"


def test_status_is_told():
    answer = ask("/statusz", ops.Readiness(True))
    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=Status) == STATUS
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/statusz"])
@pytest.mark.parametrize("ready", [True, False])
def test_head_is_get_without_the_body(path: str, ready: bool):
    state = ops.Readiness(ready, () if ready else ("sketch is loading",))
    whole, head = ask(path, state), ask(path, state, "HEAD")
    assert (head.status_code, head.headers) == (whole.status_code, whole.headers)
    assert head.content == b""


def test_probes_are_documented_once():
    app = FastAPI()
    app.include_router(ops.build(lambda: ops.Readiness(True), lambda: STATUS))
    paths = app.openapi()["paths"]
    assert {path: list(methods) for path, methods in paths.items()} == {
        "/healthz": ["get"],
        "/readyz": ["get"],
        "/statusz": ["get"],
    }
