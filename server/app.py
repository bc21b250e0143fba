"""The composition root: builds every part once, in order, and hands each what it needs.

Nobody below sees the configuration as a whole. Decides nothing about requests.
"""

import asyncio
import importlib.metadata
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.types import ASGIApp

from models import launch
from server.dialects import aimo, depicta, openai, venice
from server.edge import files, gate, jobs, metrics, ops, web
from server.edge.chooser import API_KEYS, API_PATHS, V1_PATHS, Chooser
from server.edge.front import Front
from server.edge.gate import Guard, Journal
from server.edge.metrics import Tally
from server.edge.ops import Readiness
from server.history.database import Database, file_of
from server.history.news import News
from server.history.store import Store
from server.images.pictures import DecodeLimits, Decoders
from server.inputs.fetch import Fetcher, FetchLimits
from server.inputs.reach import Reach
from server.inputs.uploads import Uploads
from server.jobs.backlog import Backlog
from server.jobs.catalog import Catalog
from server.jobs.dispatch import Dispatch
from server.jobs.engine import LocalEngine
from server.jobs.errands import Errands
from server.jobs.service import Service
from server.jobs.status import Status, status
from server.results.artifacts import Artifacts
from server.results.links import kept_key
from server.results.shelf import Shelf
from server.settings.config import Config
from server.settings.stock import missing, worker_spec
from server.settings.tables import LimitsTable, ServerTable

# In the data folder.
KEY_FILE, DATABASE_FILE, COMPILED_FOLDER = "signing.key", "limner.db", "compiled"
BASES = {"aimo": "/api/v1", "venice": "/api/v1", "depicta": "/v1", "openai": "/v1"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that paints; and what requests need besides, which runs only while they come."""

    config: Config
    decoders: Decoders
    dispatch: Dispatch
    service: Service
    artifacts: Artifacts
    fetcher: Fetcher
    store: Store
    news: News
    errands: Errands
    tally: Tally
    built: float = field(default_factory=time.monotonic)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start the decoders and the workers; on leaving, cancel what is left and end them."""
        async with self.decoders, asyncio.TaskGroup() as tasks:
            tasks.create_task(self.dispatch.run())
            try:
                yield
            finally:
                await self.dispatch.close()

    def readiness(self) -> Readiness:
        """Ready when a worker takes work and a model painted its warm-up picture.

        Models that could not be loaded are named, and do not keep the others from serving.
        """
        engines = self.dispatch.engines
        models = {table.id for table in self.config.model}
        ahead = {table.id for table in self.config.model if self.config.loads_ahead(table)}
        loaded = {model for engine in engines for model in engine.models}
        failed = {model for engine in engines for model in engine.failures} - loaded
        reasons = [f"worker {e.name} is {e.state}" for e in engines if e.state != "ready"]
        reasons += [f"model {model} could not be loaded" for model in sorted(failed)]
        waking = not any(engine.state == "ready" for engine in engines)
        if waking:
            reasons += [f"model {model} is loading" for model in sorted(ahead - loaded - failed)]
        reasons += [self.store.trouble] if self.store.trouble else []
        ready = bool(loaded) and not waking
        return Readiness(ready, tuple(reasons), settled=not waking or failed == models)

    def status(self) -> Status:
        """What is in memory, and how busy it is."""
        dispatch = self.dispatch
        return status(
            [table.id for table in self.config.model],
            dispatch.engines,
            dispatch.live_by_model,
            dispatch.waiting_by_model,
            time.monotonic() - self.built,
        )

    async def settled(self) -> Readiness:
        """Wait until something can be painted, or nothing ever will."""
        while not (now := self.readiness()).settled:
            await self.dispatch.change()
        return now


def assemble(config: Config) -> Parts:
    """Build the parts; nothing is started.

    Raises:
        ConfigError: no model has its files.
    """
    limits = config.limits
    absent = missing(config)
    spec = worker_spec(config)
    launch.prepare(
        {model.family for model in spec.models},
        config.worker.threads,
        compiled=config.server.data_dir / COMPILED_FOLDER,
    )
    engine = LocalEngine(spec, config.worker.start_seconds, absent)
    dispatch = Dispatch([engine], Backlog(limits.waiting))
    decoders = Decoders(
        DecodeLimits(
            max_pixels=limits.image_pixels,
            max_side=limits.image_side,
            seconds=limits.decode_seconds,
            children=limits.decoders,
        )
    )
    store, news, errands = _store(config), News(), Errands(config.server.grace_seconds)
    tally = Tally()
    version = importlib.metadata.version("limner")
    metrics.registered(dispatch, tally, [model.id for model in config.model], version)
    service = Service(
        Catalog.of(config, absent),
        limits,
        decoders,
        dispatch,
        (store, news, tally),
        preview_steps=config.worker.preview_steps,
    )
    artifacts = _artifacts(config.server, limits)
    fetcher = _fetcher(config.server, limits, artifacts)
    return Parts(
        *(config, decoders, dispatch, service, artifacts, fetcher, store, news, errands, tally)
    )


def _store(config: Config) -> Store:
    server = config.server
    url = server.database or DATABASE_FILE
    return Store(
        Database(file_of(url, server.data_dir)),
        days=config.limits.job_days,
        keep_prompts=server.keep_prompts,
    )


def _artifacts(server: ServerTable, limits: LimitsTable) -> Artifacts:
    def keys() -> list[str]:
        given = [key.get_secret_value() for key in server.signing_keys]
        return given or [kept_key(server.data_dir / KEY_FILE)]

    url = server.artifacts or (server.data_dir / "artifacts").as_uri()
    return Artifacts(
        Shelf(url, server.artifacts_endpoint),
        keys,
        hours=limits.artifact_hours,
        quota=limits.artifact_bytes,
    )


def _fetcher(server: ServerTable, limits: LimitsTable, artifacts: Artifacts) -> Fetcher:
    match server.url_fetch:
        case "off":
            reach = None
        case "public":
            reach = Reach()
        case hosts:
            reach = Reach.to(hosts)
    bounds = FetchLimits(limits.image_bytes, limits.fetch_seconds, limits.fetches)
    return Fetcher(reach, bounds, own=artifacts.behind)


def build(
    parts: Parts, on_settled: Callable[[Readiness], None], on_broken: Callable[[], None]
) -> ASGIApp:
    """The whole HTTP application.

    Args:
        on_settled: called once, when the models are loaded or have failed to.
        on_broken: called when what paints has ended by an error of its own: time to go.
    """
    app = FastAPI(
        title="limner",
        lifespan=_lifespan(parts, on_settled, on_broken),
        redirect_slashes=False,
    )
    app.include_router(ops.build(parts.readiness, parts.status))
    app.include_router(metrics.build(parts.tally.registry))
    app.include_router(files.build(parts.artifacts))
    app.include_router(jobs.build(parts.news, parts.store))
    for path, dialect in dialects(parts).items():
        app.mount(path, dialect)
    web.install(app, web.plain)
    server = parts.config.server
    public = urlsplit(server.public_url).hostname
    hosts = [*server.allowed_hosts, server.host, *([public] if public else [])]
    origins = server.allowed_origins
    return Journal(Guard(gate.cors(app, origins), hosts=hosts, origins=origins))


def dialects(parts: Parts) -> Mapping[str, ASGIApp]:
    """The application under each path: each dialect under its own name, and where its service has
    it, which two of them may share."""
    limits = parts.config.limits
    front = Front(
        painter=parts.service,
        catalog=parts.service.catalog,
        limits=limits,
        uploads=Uploads(limits.image_bytes, parts.fetcher),
        artifacts=parts.artifacts,
        decoders=parts.decoders,
        jobs=parts.store,
        errands=parts.errands,
        public_url=parts.config.server.public_url,
        started=int(time.time()),
    )
    spoken: dict[str, ASGIApp] = {
        "aimo": aimo.build(front),
        "venice": venice.build(front),
        "openai": openai.build(front),
        "depicta": depicta.build(front),
    }
    own = {f"/{name}{BASES[name]}": app for name, app in spoken.items()}
    v1 = {name: spoken[name] for name in ("openai", "depicta")}
    return own | {
        "/api/v1": Chooser(spoken, API_PATHS, API_KEYS, limits.body_bytes),
        "/v1": Chooser(v1, V1_PATHS, {}, limits.body_bytes),
    }


def _lifespan(
    parts: Parts, on_settled: Callable[[Readiness], None], on_broken: Callable[[], None]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    async def announce() -> None:
        on_settled(await parts.settled())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        try:
            # Errands end while somebody still paints; what became of them is written last.
            async with (
                parts.store.running(),
                parts.running(),
                parts.fetcher,
                parts.errands,
                asyncio.TaskGroup() as tasks,
            ):
                going = [tasks.create_task(work) for work in (announce(), parts.artifacts.run())]
                yield
                for task in going:
                    task.cancel()
        except BaseException:
            on_broken()
            raise

    return lifespan
