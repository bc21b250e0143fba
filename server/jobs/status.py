"""What a running server has in memory, and how busy that is: for operators, without a prompt.

Pure: the state of the workers goes in, a frozen value comes out, which travels as JSON.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from server.jobs.engine import Engine

Where: TypeAlias = Literal["resident", "loading", "failed", "on disk"]


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker."""

    name: str
    device: str  # "" until it has told
    state: str  # see `engine.State`


class ModelStatus(msgspec.Struct, frozen=True):
    """One configured model."""

    id: str
    state: Where
    reason: str = ""  # why it failed; may name files
    bytes: int = 0  # of its weights, in the memory of all workers
    running: int = 0  # images being painted
    waiting: int = 0  # images in the backlog


class Status(msgspec.Struct, frozen=True):
    """The whole server."""

    uptime: float  # seconds
    workers: tuple[WorkerStatus, ...]
    models: tuple[ModelStatus, ...]


def status(
    models: Sequence[str],
    engines: Sequence[Engine],
    running: Counter[str],
    waiting: Counter[str],
    uptime: float,
) -> Status:
    """The state of things.

    Args:
        models: the ids of all that are configured, in order.
        running: images being painted, by model.
        waiting: images in the backlog, by model.
        uptime: seconds.
    """
    return Status(
        uptime=round(uptime, 1),
        workers=tuple(WorkerStatus(each.name, each.device, each.state) for each in engines),
        models=tuple(
            _model(model, engines, running=running[model], waiting=waiting[model])
            for model in models
        ),
    )


def _model(model: str, engines: Sequence[Engine], *, running: int, waiting: int) -> ModelStatus:
    seats = [engine.sizes[model] for engine in engines if model in engine.resident]
    reasons = [engine.failures[model] for engine in engines if model in engine.failures]
    where: Where = "on disk"
    if seats:
        where = "resident"
    elif any(engine.loading == model for engine in engines):
        where = "loading"
    elif engines and len(reasons) == len(engines):
        where = "failed"
    reason = reasons[0] if where == "failed" else ""
    return ModelStatus(model, where, reason, sum(seats), running, waiting)
