"""The story of a request: admit, submit, and for each event judge, encode, yield; then settle.

Joins the other modules and decides nothing itself. A streamed and a plain answer are the same
iterator of updates; the plain one keeps the last. Knows nothing of HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from server.catalog import Size
from server.errors import Refusal
from server.intake import Notice, Order
from server.pictures import Picture


@dataclass(frozen=True, slots=True)
class Progress:
    """A canvas went one step on; `preview` is there every few steps."""

    index: int
    step: int
    steps: int
    preview: Picture | None


@dataclass(frozen=True, slots=True)
class Painted:
    """One of the n images, ready to be delivered."""

    index: int
    seed: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Missed:
    """One of the n images that could not be painted."""

    index: int
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The last update of every request: all that its answer says."""

    id: str
    created: int  # unix seconds
    order: Order
    painted: tuple[Painted, ...]  # by index
    missed: tuple[Missed, ...]  # by index
    inputs: tuple[Size, ...]  # of the input images as uploaded, upright
    notices: tuple[Notice, ...]
    seconds: Mapping[str, float]  # "queue", "paint", "total"


Update: TypeAlias = Progress | Painted | Missed | Result
