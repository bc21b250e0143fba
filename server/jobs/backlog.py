"""The canvases that wait for a worker, and who goes next. Pure: no clock, no I/O, no asyncio.

Fair in two rounds: each account in turn, and each request of an account in turn, one canvas at a
time, so that a request for ten images does not stand in front of a request for one. Models that a
worker has in memory go before those it would have to load, but only so often: two models in turn
do not drive each other out with every picture, and neither waits for ever.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from models.contract import Job

LOOK_AHEAD = 16  # canvases that may overtake one whose model would have to be loaded


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


@dataclass(slots=True)
class Held:
    """Whose turn it was when its model was not in memory, and how many have gone ahead since."""

    account: str
    request: Request
    overtaken: int = 0


class Backlog:
    """Waiting canvases, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accounts: OrderedDict[str, deque[Request]] = OrderedDict()  # whose turn it is: first
        self._returned: deque[Canvas] = deque()
        self._held: Held | None = None

    def __len__(self) -> int:
        """Waiting canvases."""
        return len(self._returned) + sum(len(request.indexes) for request in self._requests())

    @property
    def by_model(self) -> Counter[str]:
        """Waiting canvases of each model."""
        count = Counter(canvas.job.model for canvas in self._returned)
        for request in self._requests():
            count[request.job.model] += len(request.indexes)
        return count

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

    def take(
        self,
        free: int,
        live: int,
        models: Collection[str],
        resident: Collection[str],
    ) -> list[Canvas]:
        """The canvases to send to a worker now, in order; they are waiting no longer.

        A model is only loaded by an empty worker, and then comes alone.

        Args:
            free: how many more canvases the worker takes.
            live: how many it has.
            models: the ids of the models it serves.
            resident: those of them that it has in memory.
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
        while len(taken) < free and (
            chosen := self._choose(models, resident, busy=bool(live or taken))
        ):
            account, request = chosen
            if request.job.model not in resident:
                resident = {request.job.model}
            taken.append(self._deal(account, request))
        return taken

    def _choose(
        self, models: Collection[str], resident: Collection[str], *, busy: bool
    ) -> tuple[str, Request] | None:
        """Whose canvas goes next; None where none waits, or the worker must become empty first."""
        turn = self._turn(models)
        held = self._held
        if held is None or not held.request.indexes or held.request.job.model in resident:
            foreign = turn is not None and turn[1].job.model not in resident
            held = self._held = Held(*turn) if turn and foreign else None
        if held is None or held.request.job.model not in models:
            return turn
        if held.overtaken < LOOK_AHEAD and (ahead := self._turn(resident)):
            held.overtaken += 1
            return ahead
        return None if busy else (held.account, held.request)

    def _requests(self) -> Iterator[Request]:
        return (request for requests in self._accounts.values() for request in requests)

    def _turn(self, models: Collection[str]) -> tuple[str, Request] | None:
        """Whose turn it is among those that wait for these models."""
        for account, requests in self._accounts.items():
            for request in requests:
                if request.job.model in models and request.indexes:
                    return account, request
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
