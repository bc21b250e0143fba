"""What was measured of a load, and what it amounts to: rates, percentiles, errors. Pure.

Times are seconds since the load began.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

QUANTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as its client saw it."""

    number: int
    kind: str
    due: float  # when it was to be sent: latency counts from here, or a stalled client hides stalls
    sent: float
    done: float
    status: int  # 0: no answer
    images: int
    left: bool = False  # its client went away, as planned
    preview: float | None = None  # when the first preview came
    queue: float | None = None  # as the server says
    paint: float | None = None
    encode: float | None = None
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether all pictures came."""
        return self.status == 200 and not self.error and not self.left

    @property
    def latency(self) -> float:
        """Seconds that its client waited."""
        return self.done - self.due


def summary(samples: Sequence[Sample], slo: float | None = None) -> dict[str, Any]:
    """The figures of a load.

    Args:
        slo: seconds within which a request must be answered to count as good; None: three times
            the median.
    """
    good = [sample for sample in samples if sample.good]
    stayed = [sample for sample in samples if not sample.left]
    begin = min((sample.due for sample in samples), default=0.0)
    span = max((sample.done for sample in samples), default=0.0) - begin
    limit = slo or 3 * quantiles([sample.latency for sample in good]).get("p50", 0.0)
    within = [sample for sample in good if sample.latency <= limit]
    return {
        "requests": len(samples),
        "answered": len(good),
        "left": len(samples) - len(stayed),
        "images": sum(sample.images for sample in good),
        "seconds": round(span, 3),
        "images_per_second": _rate(sum(sample.images for sample in good), span),
        "latency": quantiles([sample.latency for sample in good]),
        "late_sending": quantiles([sample.sent - sample.due for sample in samples]),
        "queue": quantiles([sample.queue for sample in good if sample.queue is not None]),
        "paint": quantiles([sample.paint for sample in good if sample.paint is not None]),
        "encode": quantiles([sample.encode for sample in good if sample.encode is not None]),
        "first_preview": quantiles(
            [sample.preview - sample.due for sample in good if sample.preview is not None]
        ),
        "slo_seconds": round(limit, 3),
        "goodput": round(len(within) / len(stayed), 4) if stayed else 0.0,
        "good_per_second": _rate(len(within), span),
        "errors": errors(stayed),
        "kinds": {name: of_kind(name, samples) for name in sorted({s.kind for s in samples})},
    }


def of_kind(name: str, samples: Iterable[Sample]) -> dict[str, Any]:
    """The figures of one kind of request."""
    mine = [sample for sample in samples if sample.kind == name]
    good = [sample for sample in mine if sample.good]
    return {
        "requests": len(mine),
        "answered": len(good),
        "latency": quantiles([sample.latency for sample in good]),
    }


def errors(samples: Iterable[Sample]) -> Mapping[str, int]:
    """How many of which: a status, or what kept an answer from coming."""
    bad = [sample for sample in samples if not sample.good]
    return dict(Counter(f"{sample.status}: {sample.error}"[:120] for sample in bad).most_common(20))


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, p95 and p99, and the mean; nothing of nothing."""
    if not values:
        return {}
    found = np.percentile(values, QUANTILES)
    names = [f"p{q}" for q in QUANTILES]
    return {n: round(float(v), 4) for n, v in zip(names, found, strict=True)} | {
        "mean": round(float(np.mean(values)), 4)
    }


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 4) if seconds > 0 else 0.0
