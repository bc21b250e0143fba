"""Which low-rank adapters a request wears: those of its model, of its style, and of its prompt.

Pure. Knows nothing of files, of weights in memory or of HTTP.
"""

import re
from collections.abc import Mapping, Sequence

from server.errors import BadRequest
from server.jobs.catalog import Offering
from server.notices import Notice

TAG = re.compile(r"<lora:(?P<name>[^:<>]*)(:(?P<weight>[^<>]*))?>", re.IGNORECASE)
LEAST, LARGEST = -4.0, 4.0  # of a weight in a tag


def tags(prompt: str, offering: Offering) -> tuple[str, dict[str, float]]:
    """A prompt without its `<lora:name:weight>`, and what they ask for; the weight may be left out.

    Raises:
        BadRequest: the model has no such adapter, or the weight is none.
    """
    found: dict[str, float] = {}
    for tag in TAG.finditer(prompt):
        name = tag["name"].strip().lower()
        if name not in offering.loras:
            known = ", ".join(offering.loras) or "none"
            raise BadRequest(
                f"{offering.id} has no LoRA {name!r:.80}; it has: {known:.1000}", param="prompt"
            )
        found[name] = (
            offering.loras[name].weight if tag["weight"] is None else weight(tag["weight"])
        )
    return " ".join(TAG.sub(" ", prompt).split()) if found else prompt, found


def weight(text: str) -> float:
    """The number in a tag.

    Raises:
        BadRequest: it is none, or too large.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not LEAST <= value <= LARGEST:
        raise BadRequest(
            f"the weight of a LoRA must be from {LEAST:g} to {LARGEST:g}, not {text!r}",
            param="prompt",
        )
    return value


def worn(
    offering: Offering,
    styles: Sequence[str],
    tagged: Mapping[str, float],
    strength: int | None,
    notices: list[Notice],
) -> tuple[tuple[str, float], ...]:
    """Name and weight of each adapter, the same for the same wishes.

    `styles` names those of the styles that are used; `strength` (0 to 100) is a share of the
    weights that the configuration says, and leaves those of tags alone.
    """
    chosen = [name for name, lora in offering.loras.items() if lora.always]
    for name in styles:
        if name in offering.loras:
            chosen.append(name)
        else:
            notices.append(Notice("style_preset", f"{offering.id} has no LoRA {name} for it"))
    if strength and not chosen:
        why = "weights are in the prompt" if tagged else f"{offering.id} wears no LoRA for this"
        notices.append(Notice("lora_strength", f"not used: {why}"))
    share = 1.0 if strength is None else strength / 100
    weights = {name: offering.loras[name].weight * share for name in chosen} | dict(tagged)
    return tuple(sorted((name, value) for name, value in weights.items() if value))
