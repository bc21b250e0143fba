"""What a monitoring system asks: counters of what was done, and gauges of how busy the workers are.

In Prometheus' text format. Labels are names of dialects, models and workers and sizes from the
configuration, never anything that a client sent. Knows no dialect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from server.jobs.dispatch import Dispatch
from server.jobs.engine import Engine
from server.jobs.recorder import End, Entry

WAITS = (0.005, 0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)  # seconds
ENCODES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)  # seconds
MEASURED = ("model", "kind", "size")  # what a cap is of


def build(registry: CollectorRegistry) -> APIRouter:
    """`GET /metrics`."""
    router = APIRouter(tags=["operation"])

    async def metrics() -> Response:
        """Counters and gauges, in Prometheus' text format."""
        headers = {"Cache-Control": "no-store"}
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST, headers=headers)

    router.add_api_route("/metrics", metrics, methods=["GET"], response_class=Response)
    return router


def registered(dispatch: Dispatch, tally: "Tally", models: Sequence[str], version: str) -> None:
    """Have the tally's registry tell of the workers too, and of which limner this is."""
    tally.registry.register(Busyness(dispatch, models))
    Info("limner_build", "This limner.", registry=tally.registry).info({"version": version})


@dataclass(slots=True)
class Tally:
    """Counts requests as they end: a `Recorder`."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _dialects: dict[str, str] = field(default_factory=dict[str, str])  # of what is going on
    _jobs: Counter = field(init=False)
    _images: Counter = field(init=False)
    _seconds: dict[str, Histogram] = field(init=False)

    def __post_init__(self) -> None:
        at = self.registry
        by = ("dialect", "outcome")
        self._jobs = Counter("limner_jobs", "Requests that have ended.", by, registry=at)
        self._images = Counter("limner_images", "Pictures that were made.", registry=at)
        told = {
            "queue": ("What a request waited for its first canvas.", WAITS),
            "paint": ("What its slowest canvas took.", WAITS),
            "encode": ("What finishing its slowest picture took.", ENCODES),
        }
        self._seconds = {
            name: Histogram(f"limner_{name}_seconds", text, registry=at, buckets=buckets)
            for name, (text, buckets) in told.items()
        }

    def admitted(self, entry: Entry, account: str, at: float) -> None:
        self._dialects[entry.id] = entry.dialect

    def progressed(self, job: str, index: int, step: int, steps: int) -> None:
        pass

    def painted(self, job: str, index: int, seed: int | None) -> None:
        self._images.inc()

    def ended(self, job: str, end: End) -> None:
        self._jobs.labels(self._dialects.pop(job), end.state).inc()
        for name, histogram in self._seconds.items():
            if name in end.seconds:
                histogram.observe(end.seconds[name])


@dataclass(frozen=True, slots=True, eq=False)
class Busyness(Collector):
    """What the dispatch and its workers are doing when somebody asks."""

    dispatch: Dispatch
    models: Sequence[str]

    def collect(self) -> Iterator[Metric]:
        """Read anew for every answer."""
        waiting, live = self.dispatch.waiting_by_model, self.dispatch.live_by_model
        yield gauge("limner_queue_length", "Canvases that wait.", self.models, waiting)
        yield gauge("limner_live_canvases", "Canvases that are painted.", self.models, live)
        engines = self.dispatch.engines
        yield from told_of_workers(engines)
        yield from measured(engines)


def gauge(name: str, text: str, models: Sequence[str], by: dict[str, int]) -> Metric:
    """A number of each model."""
    family = GaugeMetricFamily(name, text, labels=("model",))
    for model in models:
        family.add_metric((model,), by.get(model, 0))
    return family


def told_of_workers(engines: Sequence[Engine]) -> Iterator[Metric]:
    """Whether they work, and what went wrong with them."""
    ready = GaugeMetricFamily("limner_worker_ready", "Whether it paints.", labels=("worker",))
    restarts = CounterMetricFamily(
        "limner_worker_restarts", "Deaths of its process.", labels=("worker",)
    )
    late = CounterMetricFamily(
        "limner_late_compilations",
        "Graphs that were compiled while no model was loaded, so that somebody waited.",
        labels=("worker",),
    )
    for engine in engines:
        ready.add_metric((engine.name,), engine.state == "ready")
        restarts.add_metric((engine.name,), engine.restarts)
        late.add_metric((engine.name,), engine.late_compilations)
    yield from (ready, restarts, late)


def measured(engines: Sequence[Engine]) -> Iterator[Metric]:
    """What the workers found out about their models; of several workers, the first to know."""
    caps = GaugeMetricFamily(
        "limner_batch_cap", "Canvases that a call may hold, as measured.", labels=MEASURED
    )
    seconds = GaugeMetricFamily(
        "limner_call_seconds", "Seconds of a call with one canvas, as measured.", labels=MEASURED
    )
    graphs = GaugeMetricFamily(
        "limner_compiled_graphs", "Graphs that loading it compiled.", labels=("model",)
    )
    known: set[str] = set()
    for engine in engines:
        for model, loaded in engine.loaded.items():
            if model in known:
                continue
            known.add(model)
            graphs.add_metric((model,), loaded.compiled)
            for cap in loaded.caps:
                labels = (model, cap.kind, f"{cap.width}x{cap.height}")
                caps.add_metric(labels, cap.canvases)
                seconds.add_metric(labels, cap.seconds)
    yield from (caps, seconds, graphs)
