"""What is offered: models under their ids and aliases, and style presets.

Built once from the configuration and never changed. Knows nothing of requests, of HTTP or of torch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self, TypeAlias

from models.contract import Task
from server.errors import BadRequest, UnknownModel
from server.settings.kinds import name_key
from server.settings.offers import LoraTable, ModelTable, StyleTable
from server.settings.tables import Config
from server.sizes import Size as Size
from server.sizes import Sizing

Quality: TypeAlias = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter that a model may wear; `always` unless a request turns it off."""

    weight: float
    always: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """One model as it is offered: what it can do, its defaults and its ranges (ends included)."""

    id: str
    family: str
    sizing: Sizing
    steps: int
    steps_range: tuple[int, int]
    guidance: float
    guidance_range: tuple[float, float]
    quality: Mapping[Quality, int]  # steps
    strength: float  # of an edit without a mask; 0 < strength ≤ 1
    instructs: bool  # whether an edit follows the prompt as an instruction
    tasks: tuple[Task, ...]
    max_inputs: int
    negative_prompt: bool  # whether it understands one
    prompt_chars: int | None  # None: as the server's limit
    loras: Mapping[str, Lora]  # by name
    aliases: tuple[str, ...] = ()
    there: bool = True  # whether its files are on this machine

    @classmethod
    def of(
        cls,
        model: ModelTable,
        aliases: tuple[str, ...] = (),
        loras: Sequence[LoraTable] = (),
        there: bool = True,
    ) -> Self:
        """The offering that a table describes; `loras` are its own."""
        quality = model.steps_by_quality
        return cls(
            id=model.id,
            family=model.family,
            sizing=model.sizing,
            steps=model.steps,
            steps_range=model.steps_range,
            guidance=model.guidance,
            guidance_range=model.guidance_range,
            quality={"low": quality.low, "medium": quality.medium, "high": quality.high},
            strength=1.0 if model.instructs else model.strength,
            instructs=model.instructs,
            tasks=model.able,
            max_inputs=model.max_inputs,
            negative_prompt=model.negative_prompt,
            prompt_chars=model.prompt_chars,
            loras={lora.name: Lora(lora.weight, lora.always) for lora in loras},
            aliases=aliases,
            there=there,
        )


@dataclass(frozen=True, slots=True)
class Style:
    """A preset: `prompt` is a template with `{prompt}` in it."""

    name: str
    prompt: str
    negative_prompt: str
    lora: str = ""  # the name of an adapter; empty: none

    @classmethod
    def of(cls, style: StyleTable) -> Self:
        """The preset that a table describes."""
        return cls(style.name, style.prompt, style.negative_prompt, style.lora)

    def apply(self, prompt: str, negative_prompt: str) -> tuple[str, str]:
        """Both prompts, in this style."""
        negatives = (negative_prompt, self.negative_prompt)
        # Once only: a style may be a client's own words, with many more of these marks in them.
        painted = self.prompt.replace("{prompt}", prompt, 1)
        return painted, ", ".join(text for text in negatives if text)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything offered, in the order of the configuration; at least one model."""

    offerings: tuple[Offering, ...]
    styles: tuple[Style, ...]
    _by_name: Mapping[str, Offering]
    _by_style: Mapping[str, Style]

    @classmethod
    def of(cls, config: Config, absent: Collection[str] = ()) -> Self:
        """The catalog that a configuration describes; `absent` are ids of models without files."""
        aliases: dict[str, tuple[str, ...]] = {}
        for name, model in config.names.items():
            aliases[model] = (*aliases.get(model, ()), name)
        offerings = tuple(
            Offering.of(
                model,
                aliases.get(model.id, ()),
                [lora for lora in config.lora if lora.model == model.id],
                model.id not in absent,
            )
            for model in config.model
        )
        styles = tuple(Style.of(style) for style in config.style)
        by_name = {name.lower(): each for each in offerings for name in (each.id, *each.aliases)}
        by_style = {name_key(style.name): style for style in styles}
        return cls(offerings, styles, MappingProxyType(by_name), MappingProxyType(by_style))

    def find(self, name: str) -> Offering:
        """The model of this id or alias, whatever its case.

        Raises:
            UnknownModel: there is none.
        """
        found = self._by_name.get(name.strip().lower())
        if found is None:
            loaded = ", ".join(each.id for each in self.offerings)
            raise UnknownModel(
                f"there is no model {name!r:.80}; there are: {loaded:.1000}", param="model"
            )
        return found

    def style(self, name: str) -> Style | None:
        """The preset of this name, if there is one."""
        return self._by_style.get(name_key(name))

    def preset(self, name: str) -> Style:
        """The preset of this name.

        Raises:
            BadRequest: there is none.
        """
        found = self.style(name)
        if found is None:
            allowed = ", ".join(each.name for each in self.styles) or "none"
            raise BadRequest(
                f"there is no style preset {name!r:.80}; there are: {allowed:.1500}",
                param="style_preset",
            )
        return found
