"""What a client is told beside its answer: a wish that did not act, or acted differently.

Knows nothing of how a dialect renders it, nor of what was asked.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a request asked for that did not act, or acted differently.

    `param` is a field of `Draft`, perhaps with an index; `message` is ASCII apart from what it
    quotes.
    """

    param: str
    message: str


def shown(number: float) -> str:
    """A client's number for a message, in at most 18 characters."""
    if not abs(number) < 10**12:  # nor is NaN
        return "a very large number" if abs(number) >= 10**12 else "no number"
    return str(number) if isinstance(number, int) else f"{number:.6g}"
