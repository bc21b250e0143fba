"""What a load is made of: kinds of requests and how often each comes, read from a TOML file.

Knows nothing of any server's words, or of when a request is sent.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Task: TypeAlias = Literal["generate", "edit", "inpaint"]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Kind(BaseModel):
    """`[[request]]`: one kind of request.

    `cancel` is the share of them whose client leaves after `cancel_after` seconds. Every request
    has a prompt of its own, the kind's and a number behind it, or a server that remembers what it
    read of a prompt would be measured without reading any; with `same_prompt` all have the kind's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)
    task: Task = "generate"
    model: str = ""
    prompt: str = "a red circle on a blue background"
    same_prompt: bool = False
    width: int = Field(default=512, ge=64, le=8192)
    height: int = Field(default=512, ge=64, le=8192)
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0, le=50)
    strength: float | None = Field(default=None, gt=0, le=1)
    n: int = Field(default=1, ge=1, le=10)
    stream: bool = False
    cancel: Share = 0.0
    cancel_after: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _strong_only_where_there_is_a_picture(self) -> "Kind":
        if self.strength is not None and self.task == "generate":
            raise ValueError("strength: there is no picture to repaint")
        return self


class Mix(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: tuple[Kind, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _named_apart(self) -> "Mix":
        names = [kind.name for kind in self.request]
        if len({*names}) < len(names):
            raise ValueError("request: every kind must have a name of its own")
        return self


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of a load."""

    number: int
    kind: Kind
    seed: int
    leaves: bool  # its client goes away before it is answered

    @property
    def prompt(self) -> str:
        """Of this request: the seed is its last word, unless all of the kind say the same."""
        return self.kind.prompt if self.kind.same_prompt else f"{self.kind.prompt} {self.seed}"


@dataclass(slots=True)
class Plan:
    """An endless row of requests, the same for the same mix, seed and turn.

    In another turn the same kinds come in the same order, with other pictures' seeds: no prompt of
    one load is known from the load before.
    """

    mix: Mix
    seed: int
    turn: int = 0
    count: int = 0
    _rng: Random = field(init=False)
    _seeds: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self._seeds = Random(f"{self.seed}, {self.turn}")

    def draw(self) -> Planned:
        """The next one."""
        kinds = self.mix.request
        (kind,) = self._rng.choices(kinds, [kind.weight for kind in kinds])
        leaves = self._rng.random() < kind.cancel
        planned = Planned(self.count, kind, self._seeds.randrange(2**31), leaves)
        self.count += 1
        return planned


def read(path: Path) -> Mix:
    """A mix from its file.

    Raises:
        ValueError: with the field at fault.
    """
    try:
        return Mix.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        lines = [".".join(map(str, each["loc"])) + f": {each['msg']}" for each in error.errors()]
        raise ValueError(f"{path}: " + "; ".join(lines)) from None


def plain(kinds: Sequence[Kind]) -> Mix:
    """A mix of just these."""
    return Mix(request=tuple(kinds))
