"""Which models are in memory: loaded when asked for, and given up again for others.

The least recently used goes first, never a pinned one, and never under a running canvas: whoever
asks for a model makes sure that nothing is being painted. Knows nothing of torch.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.canvas import Model, OutOfMemory, Unloadable
from models.contract import AnyEvent, Evicted, ModelSpec


@dataclass(slots=True)
class Seat:
    """A model in memory."""

    spec: ModelSpec
    model: Model
    size: int  # bytes
    used: float  # when it was asked for last, by the clock


class Residency:
    """The models of a worker, within a budget for their weights.

    Args:
        specs: all models that may be asked for.
        budget: bytes.
        load: loads a model; what to say of it. Raises Unloadable or OutOfMemory.
        expect: how many bytes a model will take, as far as can be told before it is loaded.
        give_back: returns freed memory to the device.
        emit: told what was loaded and given up.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        budget: int,
        *,
        load: Callable[[ModelSpec], tuple[Model, AnyEvent]],
        expect: Callable[[ModelSpec], int],
        give_back: Callable[[], None],
        emit: Callable[[AnyEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._specs: Mapping[str, ModelSpec] = {spec.id: spec for spec in specs}
        self._budget = budget
        self._load = load
        self._expect = expect
        self._give_back = give_back
        self._emit = emit
        self._clock = clock
        self._seats: dict[str, Seat] = {}
        self._sizes: dict[str, int] = {}  # as measured when it was loaded before

    def __contains__(self, model: str) -> bool:
        return model in self._seats

    @property
    def models(self) -> tuple[str, ...]:
        """What is in memory."""
        return tuple(self._seats)

    def get(self, model: str) -> Model:
        """The model, loaded if need be. Nothing may be being painted then.

        Raises:
            Unloadable: there is none of this name, it does not fit, or it is damaged.
        """
        if model not in self._specs:
            raise Unloadable(f"{model} is not one of this worker's models")
        if model not in self._seats:
            self._seats[model] = self._seated(self._specs[model])
        seat = self._seats[model]
        seat.used = self._clock()
        return seat.model

    def touch(self, models: Iterable[str]) -> None:
        """These have been in use until now."""
        for model in models:
            if model in self._seats:
                self._seats[model].used = self._clock()

    def expire(self) -> None:
        """Give up what has not been used for as long as its model is kept."""
        now = self._clock()
        ends = {model: expiry(seat) for model, seat in self._seats.items()}
        for model, end in ends.items():
            if end is not None and end <= now:
                self._evict(model)

    def patience(self) -> float | None:
        """Seconds until `expire` has something to do; None if it never will."""
        ends = [end for seat in self._seats.values() if (end := expiry(seat)) is not None]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def _seated(self, spec: ModelSpec) -> Seat:
        """Load a model into room made for it."""
        expected = self._sizes.get(spec.id) or self._expect(spec)
        pinned = sum(seat.size for seat in self._seats.values() if seat.spec.pinned)
        if expected + pinned > self._budget:
            raise Unloadable(
                f"{spec.id} takes {gigabytes(expected)}; of {gigabytes(self._budget)} for all "
                f"models, {gigabytes(pinned)} are pinned"
            )
        self._make_room(expected)
        model, news = self._loaded(spec)
        self._sizes[spec.id] = model.size
        self._make_room(model.size)  # it may have come out larger than its files say
        self._emit(news)
        return Seat(spec, model, model.size, self._clock())

    def _loaded(self, spec: ModelSpec) -> tuple[Model, AnyEvent]:
        """Load it; when the device has no room although the budget has, once more all alone."""
        try:
            return self._load(spec)
        except OutOfMemory as error:
            why = str(error)
        # Beyond the except block: its exception keeps what was loaded.
        self._make_room(self._budget)
        self._give_back()
        try:
            return self._load(spec)
        except OutOfMemory:
            raise Unloadable(f"{spec.id} does not fit the device: {why}") from None

    def _make_room(self, size: int) -> None:
        """Give up the least recently used until so many bytes fit, or nothing more can go."""
        for model in sorted(self._seats, key=lambda model: self._seats[model].used):
            if self._taken() + size <= self._budget:
                return
            if not self._seats[model].spec.pinned:
                self._evict(model)

    def _taken(self) -> int:
        return sum(seat.size for seat in self._seats.values())

    def _evict(self, model: str) -> None:
        del self._seats[model]
        self._emit(Evicted(model))
        self._give_back()


def expiry(seat: Seat) -> float | None:
    """When a model has been kept long enough; None: only another makes it go."""
    if seat.spec.pinned or not seat.spec.keep_seconds:
        return None
    return seat.used + seat.spec.keep_seconds


def gigabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB"
