"""What is kept of a request: one frozen value per job, and how it follows from an entry.

Knows nothing of where it is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from server.jobs.recorder import End, Entry

State: TypeAlias = Literal["pending", "processing", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row. Times are in unix seconds, sides in px.

    Attributes:
        width, height: of the delivered pictures; `paint_width` and `paint_height` of what they were
            made from.
        outcome: the code of the refusal that it came to; "" without one.
        prompt: None unless prompts are kept.
        answer: what its dialect needs to give the answer again.
        request_key, fingerprint: of a request that may be sent twice; see `Jobs.answered`.
    """

    id: str
    account: str
    dialect: str
    model: str
    task: str
    state: State
    created: float
    started: float | None = None
    finished: float | None = None
    width: int
    height: int
    paint_width: int
    paint_height: int
    steps: int
    guidance: float
    strength: float
    seeds: tuple[int, ...]
    painted: int = 0
    queue_seconds: float | None = None
    paint_seconds: float | None = None
    total_seconds: float | None = None
    outcome: str = ""
    prompt: str | None = None
    answer: Mapping[str, Any] | None = None
    request_key: str | None = None
    fingerprint: str | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.finished is not None

    def ended(self, end: End) -> "Record":
        """The same, ended."""
        return replace(
            self,
            state=end.state,
            outcome=end.code,
            finished=end.at,
            painted=end.painted,
            queue_seconds=end.seconds.get("queue"),
            paint_seconds=end.seconds.get("paint"),
            total_seconds=end.seconds.get("total"),
        )


def recorded(entry: Entry, account: str, at: float, *, keep_prompt: bool) -> Record:
    """The row of a request that was just taken on."""
    return Record(
        id=entry.id,
        account=account,
        dialect=entry.dialect,
        model=entry.model,
        task=entry.task,
        state="pending",
        created=at,
        width=entry.output.width,
        height=entry.output.height,
        paint_width=entry.painted.width,
        paint_height=entry.painted.height,
        steps=entry.steps,
        guidance=entry.guidance,
        strength=entry.strength,
        seeds=entry.seeds,
        prompt=entry.prompt if keep_prompt else None,
    )
