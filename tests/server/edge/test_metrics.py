"""What a monitoring system is told."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from models.contract import Cap, Loaded, ModelSpec, WorkerSpec
from server.edge import metrics
from server.edge.metrics import Tally
from server.jobs.backlog import Backlog
from server.jobs.dispatch import Dispatch
from server.jobs.engine import LocalEngine
from server.jobs.recorder import End, Entry
from server.sizes import Size

MODELS = ["sketch", "other"]
CAPS = (Cap("forward", 192, 128, 2, 0.04), Cap("decode", 192, 128, 1, 0.1))


def entry(job: str, dialect: str) -> Entry:
    side = Size(64, 64)
    return Entry(
        id=job, dialect=dialect, model="sketch", task="generate", output=side, painted=side
    )


def end(state: Any, **seconds: float) -> End:
    return End(state=state, code="", at=0.0, painted=0, seconds=seconds)


@pytest.fixture
def engine() -> LocalEngine:
    models = tuple(ModelSpec(id=name, family="toy", width=8, height=8) for name in MODELS)
    return LocalEngine(WorkerSpec(name="cpu", device="cpu", models=models), 1.0)


def scrape(tally: Tally) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, those by their names."""

    async def talk() -> httpx2.Response:
        app = FastAPI()
        app.include_router(metrics.build(tally.registry))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/metrics")

    answer = asyncio.run(talk())
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return dict(samples(answer.text))


def samples(text: str) -> Iterator[tuple[tuple[str, ...], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith(("_created", "_bucket")):
                yield (sample.name, *dict(sorted(sample.labels.items())).values()), sample.value


def only(found: dict[tuple[str, ...], float], *names: str) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in found.items() if key[0] in names}


def test_requests_are_counted_as_they_end() -> None:
    tally = Tally()
    ends: Sequence[tuple[str, str, End]] = (
        ("a", "aimo", end("completed", queue=0.5, paint=2.0, encode=0.25, total=3.0)),
        ("b", "aimo", end("completed", queue=0.5, paint=1.0, encode=0.25, total=3.0)),
        ("c", "openai", end("failed")),
    )
    for job, dialect, _ in ends:
        tally.admitted(entry(job, dialect), "local", 0.0)
    tally.progressed("a", 0, 1, 2)
    tally.painted("a", 0, 7)
    assert only(scrape(tally), "limner_jobs_total", "limner_images_total") == {
        ("limner_images_total",): 1
    }
    for job, _, ended in ends:
        tally.ended(job, ended)
    found = scrape(tally)
    assert only(found, "limner_jobs_total") == {
        ("limner_jobs_total", "aimo", "completed"): 2,
        ("limner_jobs_total", "openai", "failed"): 1,
    }
    sums = {name: found[f"limner_{name}_seconds_sum",] for name in ("queue", "paint", "encode")}
    assert sums == {"queue": 1.0, "paint": 3.0, "encode": 0.5}
    assert found["limner_paint_seconds_count",] == 2


def test_workers_and_what_they_measured_are_told(engine: LocalEngine) -> None:
    tally = Tally()
    dispatch = Dispatch([engine], Backlog(8))
    metrics.registered(dispatch, tally, MODELS, "1.2.3")
    engine._note(Loaded("sketch", ("generate",), 1.0, CAPS, 9, compiled=3))
    engine.restarts, engine.late_compilations = 2, 1
    expected = {
        ("limner_build_info", "1.2.3"): 1,
        **{("limner_queue_length", model): 0 for model in MODELS},
        **{("limner_live_canvases", model): 0 for model in MODELS},
        ("limner_worker_ready", "cpu"): 0,
        ("limner_worker_restarts_total", "cpu"): 2,
        ("limner_late_compilations_total", "cpu"): 1,
        ("limner_compiled_graphs", "sketch"): 3,
        ("limner_batch_cap", "forward", "sketch", "192x128"): 2,
        ("limner_batch_cap", "decode", "sketch", "192x128"): 1,
        ("limner_call_seconds", "forward", "sketch", "192x128"): 0.04,
        ("limner_call_seconds", "decode", "sketch", "192x128"): 0.1,
    }
    assert only(scrape(tally), *(key[0] for key in expected)) == expected


def test_two_servers_in_a_process_count_for_themselves() -> None:
    one, other = Tally(), Tally()
    one.painted("a", 0, 1)
    assert (scrape(one)["limner_images_total",], scrape(other)["limner_images_total",]) == (1, 0)
