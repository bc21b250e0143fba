"""Who is told what becomes of every request, whatever its dialect: admitted, on its way, ended.

Knows neither databases nor HTTP. Recorders return at once and raise nothing: painting waits for
none of them.
"""

import time
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from server.errors import Gone, InternalError, Refusal
from server.jobs.intake import Order
from server.sizes import Size

Ending: TypeAlias = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a request when it is taken on.

    Attributes:
        task: a painting's, or "enlarge", or "cutout".
        output: the size of the pictures to be delivered; `painted` that of what they are made from.
        steps, guidance, strength, seeds: of a painting.
    """

    id: str
    dialect: str
    model: str
    task: str
    images: int = 1
    output: Size
    painted: Size
    steps: int = 0
    guidance: float = 0.0
    strength: float = 0.0
    seeds: tuple[int, ...] = ()
    prompt: str = ""

    @classmethod
    def of(cls, order: Order) -> Self:
        """That of a painting."""
        job, draft = order.job, order.draft
        return cls(
            id=job.id,
            dialect=draft.dialect,
            model=job.model,
            task=job.task,
            images=len(job.seeds),
            output=order.output,
            painted=Size(job.width, job.height),
            steps=job.steps,
            guidance=job.guidance,
            strength=job.strength,
            seeds=job.seeds,
            prompt=draft.prompt,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a request ended.

    Attributes:
        code: that of the refusal which its client was told; "" if there was none.
        at: unix seconds.
        painted: how many of its images were.
        seconds: "queue", "paint", "encode", "total"; empty if it did not come to its result.
    """

    state: Ending
    code: str
    at: float
    painted: int
    seconds: Mapping[str, float]


class Recorder(Protocol):
    """Hears of each request in this order: admitted, any number of steps and pictures, ended."""

    def admitted(self, entry: Entry, account: str, at: float) -> None:
        """It was taken on, at this time in unix seconds."""
        ...

    def progressed(self, job: str, index: int, step: int, steps: int) -> None:
        """One of its images went a step on."""
        ...

    def painted(self, job: str, index: int, seed: int | None) -> None:
        """One of its images is there; it has a seed if it was painted."""
        ...

    def ended(self, job: str, end: End) -> None:
        """It is over. Nothing follows."""
        ...


@dataclass(slots=True)
class Telling:
    """Tells the recorders of one request while the block lasts, and at its end how it ended: what
    is raised there says so, unless the result was there before."""

    recorders: Sequence[Recorder]
    entry: Entry
    account: str
    _painted: int = 0
    _seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    _result: tuple[Ending, str] | None = None

    @property
    def id(self) -> str:
        """That of the request."""
        return self.entry.id

    def progressed(self, index: int, step: int, steps: int) -> None:
        """One of its images went a step on."""
        for recorder in self.recorders:
            recorder.progressed(self.id, index, step, steps)

    def painted(self, index: int) -> None:
        """One of its images is there."""
        self._painted += 1
        seed = self.entry.seeds[index] if self.entry.seeds else None
        for recorder in self.recorders:
            recorder.painted(self.id, index, seed)

    def resulted(self, missed: Sequence[Refusal], seconds: Mapping[str, float]) -> None:
        """Every image was painted or missed. It failed only if none was painted."""
        self._seconds = seconds
        code = missed[0].code if missed else ""
        self._result = ("completed" if self._painted else "failed", code)

    def __enter__(self) -> Self:
        for recorder in self.recorders:
            recorder.admitted(self.entry, self.account, time.time())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        state, code = self._ending(error)
        end = End(
            state=state, code=code, at=time.time(), painted=self._painted, seconds=self._seconds
        )
        for recorder in self.recorders:
            recorder.ended(self.id, end)

    def _ending(self, error: BaseException | None) -> tuple[Ending, str]:
        match error:
            case Refusal():
                return "failed", error.code
            case _ if self._result:
                return self._result
            case None | CancelledError() | GeneratorExit() | Gone():
                return "cancelled", ""
            case _:
                return "failed", InternalError.code
