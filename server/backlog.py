"""The canvases that wait for a worker, and who goes next. Pure: no clock, no I/O, no asyncio.

Fair in two rounds: each account in turn, and each request of an account in turn, one canvas at a
time, so that a request for ten images does not stand in front of a request for one.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from models.contract import Job


@dataclass(frozen=True, slots=True)
class Canvas:
    """Image `index` of a job."""

    job: Job
    index: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is still waiting of one job."""

    job: Job
    indexes: deque[int]


class Backlog:
    """Waiting canvases, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accounts: OrderedDict[str, deque[Request]] = OrderedDict()  # whose turn it is: first
        self._returned: deque[Canvas] = deque()

    def __len__(self) -> int:
        """Waiting canvases."""
        return len(self._returned) + sum(len(request.indexes) for request in self._requests())

    def fits(self, canvases: int) -> bool:
        """Whether so many more may wait."""
        return len(self) + canvases <= self._limit

    def push(self, job: Job, account: str) -> None:
        """Add every canvas of a job."""
        request = Request(job, deque(range(len(job.seeds))))
        self._accounts.setdefault(account, deque()).append(request)

    def put_back(self, canvas: Canvas) -> None:
        """Return a canvas whose worker died: it goes next, whatever the limit says, and alone."""
        self._returned.append(canvas)

    def drop(self, job: str) -> list[int]:
        """Forget what is waiting of a job; say which of its images that were."""
        dropped = [canvas.index for canvas in self._returned if canvas.job.id == job]
        self._returned = deque(canvas for canvas in self._returned if canvas.job.id != job)
        for request in self._requests():
            if request.job.id == job:
                dropped += request.indexes
                request.indexes.clear()
        return dropped

    def jobs_of(self, model: str) -> set[str]:
        """The jobs that wait for a model."""
        jobs = [canvas.job for canvas in self._returned]
        jobs += [request.job for request in self._requests() if request.indexes]
        return {job.id for job in jobs if job.model == model}

    def take(self, free: int, live: int, models: Collection[str]) -> list[Canvas]:
        """The canvases to send to a worker now, in order; they are waiting no longer.

        Args:
            free: how many more canvases the worker takes.
            live: how many it has.
            models: the ids of the models it serves.
        """
        returned = next((c for c in self._returned if c.job.model in models), None)
        if returned is not None:
            # It may be what killed its last worker: it goes when the worker is empty, and nobody
            # else enters before.
            if live:
                return []
            self._returned.remove(returned)
            return [returned]
        taken: list[Canvas] = []
        while len(taken) < free and (canvas := self._next(models)):
            taken.append(canvas)
        return taken

    def _requests(self) -> Iterator[Request]:
        return (request for requests in self._accounts.values() for request in requests)

    def _next(self, models: Collection[str]) -> Canvas | None:
        for account, requests in self._accounts.items():
            for request in requests:
                if request.job.model in models and request.indexes:
                    return self._deal(account, request)
        return None

    def _deal(self, account: str, request: Request) -> Canvas:
        """Take one canvas of a request; the request and its account go to the back."""
        canvas = Canvas(request.job, request.indexes.popleft())
        requests = self._accounts.pop(account)
        requests.remove(request)
        requests.append(request)
        if waiting := deque(request for request in requests if request.indexes):
            self._accounts[account] = waiting
        return canvas
