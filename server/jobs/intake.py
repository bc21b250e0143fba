"""From what a dialect understood to what is going to be painted: `Draft` in, `Order` out.

The one place where presets, defaults, ranges, seeds and sizes are decided. Pure: it sees the sizes
of the input images, never their pixels, and is given its sources of seeds and ids.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.contract import Job, Task
from server.errors import BadMask, BadRequest, Unprocessable
from server.images.reader import Format as Format
from server.jobs.catalog import Catalog, Offering, Quality, Style
from server.jobs.loras import tags, worn
from server.notices import Notice as Notice
from server.notices import shown
from server.settings.tables import LimitsTable
from server.sizes import InputLimits, Size, SizePlan, Wish, enlarges, plan_sizes

SEEDS = 2**31  # 0 is one of them
SAME_ASPECT = 0.01  # relative
LONGEST = 8.0  # longer side to shorter of an image that is only looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A request as its dialect understood it: still relative ("16:9", "2K", style "anime").

    `None` means "not asked for". Values are inside the dialect's documented ranges already; what
    the model makes of them is for `resolve`. `ignored` lists what the dialect could not honour.
    """

    dialect: str
    task: Literal["generate", "edit"]
    model: str
    prompt: str
    negative_prompt: str = ""
    n: int = 1
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None  # "16:9"
    resolution: str | None = None  # "1K", "2K", "4K"
    seed: int | None = None
    seeds_below: int = SEEDS  # what the dialect lets be asked for; drawn seeds stay below, too
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    quality: Quality | None = None
    style: str | None = None  # free text, or a preset's name
    style_preset: str | None = None  # a preset's name
    lora_strength: int | None = None  # 0 to 100 % of what the configuration says
    tags: bool = False  # whether "<lora:name:weight>" in the prompt is one
    images: tuple[bytes, ...] = ()  # encoded files, the base first
    mask: bytes | None = None  # an encoded file
    alpha_mask: bool = False  # only transparency marks; a mask without an alpha channel is refused
    own_mask: bool = False  # without a mask, what is transparent in the only image is one
    input_limits: InputLimits | None = None  # of the dialect, for the images
    output_format: Format = "png"
    output_quality: int | None = None  # 1 to 100, of JPEG and WebP
    also: tuple[Format, ...] = ()  # further formats of the same image
    embed_metadata: bool = False
    preview: bool = False  # the client listens to progress
    strict: bool = False
    user: str | None = None  # for the audit line only
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])  # stored and echoed
    called: Mapping[str, str] = field(default_factory=dict[str, str])  # fields sent by a synonym
    ignored: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request made absolute: the worker's job, and what becomes of its images afterwards.

    `job.inputs` of the draft's images are used, the first ones; `job.seeds` belong to the images.
    """

    draft: Draft
    job: Job
    output: Size  # px of the delivered pictures; equals the paint size or is scaled to
    notices: tuple[Notice, ...]


def resolve(
    draft: Draft,
    catalog: Catalog,
    limits: LimitsTable,
    *,
    inputs: Sequence[Size],
    mask: Size | None,
    draw_seed: Callable[[], int],
    new_id: Callable[[], str],
    preview_steps: int,
) -> Order:
    """Decide everything that a request left open.

    `inputs` and `mask` are the sizes of the decoded images, upright, the base first; `draw_seed`
    returns any integer; `preview_steps` is the number of steps between previews.

    Raises:
        Refusal: BadRequest, BadMask, UnknownModel or Unprocessable; `param` is a field of Draft.
    """
    notices = list(draft.ignored)
    offering = catalog.find(draft.model)
    _check_inputs(draft, inputs)
    task = _task(draft, catalog, offering, inputs, mask)
    used = _used_inputs(draft, offering, inputs, notices)
    plan = _sizes(draft, offering, limits, inputs[0] if used else None)
    notices += [*plan.notices, *_cropping(inputs[:used], plan.output)]
    prompt, negative_prompt = _prompts(draft, catalog, offering, limits, notices)
    prompt, tagged = tags(prompt, offering) if draft.tags else (prompt, {})
    styles = [style.lora for style in _styles(draft, catalog) if style.lora]
    loras = worn(offering, styles, tagged, draft.lora_strength, notices)
    steps = _steps(draft, offering, notices)
    job = Job(
        id=new_id(),
        model=offering.id,
        task=task,
        prompt=prompt,
        negative_prompt=negative_prompt,
        width=plan.paint.width,
        height=plan.paint.height,
        steps=steps,
        guidance=_guidance(draft, offering, notices),
        strength=_strength(draft, offering, task, steps, notices),
        seeds=_seeds(draft, limits, draw_seed),
        inputs=used,
        masked=task == "inpaint",
        preview_every=preview_steps if draft.preview else 0,
        loras=loras,
        enlarge=enlarges(offering.sizing, plan.paint, plan.output),
        strict=draft.strict,
    )
    return Order(draft=draft, job=job, output=plan.output, notices=tuple(notices))


def _check_inputs(draft: Draft, inputs: Sequence[Size]) -> None:
    if draft.input_limits:
        for position, size in enumerate(inputs):
            draft.input_limits.check(size, f"images[{position}]")


def _task(
    draft: Draft,
    catalog: Catalog,
    offering: Offering,
    inputs: Sequence[Size],
    mask: Size | None,
) -> Task:
    if mask is not None and not inputs:
        raise BadRequest("a mask needs an image that it belongs to", param="mask")
    if draft.task == "edit" and not inputs:
        raise BadRequest("an edit needs an image", param="images")
    if mask is not None and mask != inputs[0]:
        raise BadMask(
            f"the mask is {mask} and its image {inputs[0]}; both must have the same size",
            param="mask",
        )
    task: Task = draft.task if draft.task == "generate" or mask is None else "inpaint"
    if task not in offering.tasks:
        able = [each.id for each in catalog.offerings if task in each.tasks and each.there]
        others = f"these do: {', '.join(able)}" if able else "nor does any other that is loaded"
        raise Unprocessable(f"{offering.id} does not {task}; {others:.1000}", param="model")
    return task


def _used_inputs(
    draft: Draft, offering: Offering, inputs: Sequence[Size], notices: list[Notice]
) -> int:
    """How many of the images are used; the others are named."""
    used = 0 if draft.task == "generate" else min(len(inputs), offering.max_inputs)
    if not used and inputs:
        notices.append(Notice("images", "not used: nothing is edited"))
    elif used < len(inputs):
        surplus = (
            f"image {len(inputs)}"
            if len(inputs) == used + 1
            else (f"images {used + 1} to {len(inputs)}")
        )
        takes = f"{offering.id} takes {used}"
        notices.append(Notice("images", f"{surplus} of {len(inputs)} not used: {takes}"))
    return used


def _sizes(draft: Draft, offering: Offering, limits: LimitsTable, base: Size | None) -> SizePlan:
    wish = Wish(
        width=draft.width,
        height=draft.height,
        aspect_ratio=draft.aspect_ratio,
        resolution=draft.resolution,
        base=base,
    )
    return plan_sizes(offering.sizing, wish, limits.output_pixels)


def _cropping(used: Sequence[Size], output: Size) -> Iterator[Notice]:
    """What `preparation.prepare` cuts off: of the base what has another shape than the answer, of
    the others what no model would look at."""
    for position, size in enumerate(used):
        if position == 0 and not alike(size, output):
            message = f"cropped around its centre, as the answer is {output} and it is {size}"
            yield Notice("images[0]", message)
        if position > 0 and elongated(size):
            message = f"cropped around its centre to {LONGEST:g}:1, as it is {size}"
            yield Notice(f"images[{position}]", message)


def elongated(size: Size) -> bool:
    """Whether an image is longer than models look at."""
    return max(size.aspect, 1 / size.aspect) > LONGEST


def alike(size: Size, other: Size) -> bool:
    """Whether scaling one to the other distorts nothing that could be seen."""
    return abs(size.aspect / other.aspect - 1) <= SAME_ASPECT


def _prompts(
    draft: Draft,
    catalog: Catalog,
    offering: Offering,
    limits: LimitsTable,
    notices: list[Notice],
) -> tuple[str, str]:
    """Both prompts, styles applied."""
    most = min(limits.prompt_chars, offering.prompt_chars or limits.prompt_chars)
    for name in ("prompt", "negative_prompt", "style"):
        _check_text(name, getattr(draft, name) or "", most)
    prompt, negative_prompt = draft.prompt, draft.negative_prompt
    if negative_prompt and not offering.negative_prompt:
        notices.append(Notice("negative_prompt", f"not used: {offering.id} understands none"))
    for style in _styles(draft, catalog):
        prompt, negative_prompt = style.apply(prompt, negative_prompt)
    return prompt, negative_prompt if offering.negative_prompt else ""


def _check_text(name: str, text: str, most: int) -> None:
    if len(text) > most:
        raise BadRequest(f"{name} has {len(text)} characters; at most {most} are read", param=name)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadRequest(f"{name} is not valid Unicode: it has half a character", param=name)


def _styles(draft: Draft, catalog: Catalog) -> list[Style]:
    """The styles asked for; free text that names no preset becomes one of its own."""
    styles: list[Style] = []
    if draft.style_preset:
        styles.append(catalog.preset(draft.style_preset))
    if draft.style and draft.style.strip():
        free = draft.style.strip()
        styles.append(catalog.style(free) or Style(free, f"{{prompt}}, {free} style", ""))
    return styles[:1] if len(styles) == 2 and styles[0] == styles[1] else styles


def _steps(draft: Draft, offering: Offering, notices: list[Notice]) -> int:
    low, high = offering.steps_range
    if draft.steps is not None:
        if draft.quality is not None:
            notices.append(Notice("quality", "not used: steps was given"))
        return int(_clamped("steps", draft.steps, low, high, offering, notices))
    return offering.quality[draft.quality] if draft.quality else offering.steps


def _guidance(draft: Draft, offering: Offering, notices: list[Notice]) -> float:
    if draft.guidance is None:
        return offering.guidance
    low, high = offering.guidance_range
    return _clamped("guidance", draft.guidance, low, high, offering, notices)


def _strength(
    draft: Draft, offering: Offering, task: Task, steps: int, notices: list[Notice]
) -> float:
    """How much of the schedule is run; enough for one step at least."""
    if task == "generate":
        if draft.strength is not None:
            notices.append(Notice("strength", "not used: nothing is edited"))
        return 1.0
    # Rounded up: pipelines take the whole part of steps × strength, and 49 × (1 / 49) is below 1.
    low = math.ceil(10_000 / steps) / 10_000
    if draft.strength is not None:
        return _clamped("strength", draft.strength, low, 1.0, offering, notices)
    return max(low, offering.strength) if task == "edit" else 1.0


def _clamped(
    name: str,
    asked: float,
    low: float,
    high: float,
    offering: Offering,
    notices: list[Notice],
) -> float:
    if asked != asked:  # not a number; math.isnan takes no integer of any length
        raise BadRequest(f"{name} must be a number", param=name)
    used = min(max(asked, low), high)
    if used != asked:
        span = f"{offering.id} takes {shown(low)} to {shown(high)}"
        notices.append(Notice(name, f"asked for {shown(asked)}, used {shown(used)}: {span}"))
    return used


def check_count(n: int, limits: LimitsTable) -> None:
    """Refuse more images than can ever wait.

    Raises:
        BadRequest: with `n` named.
    """
    if not 1 <= n <= limits.waiting:
        raise BadRequest(f"n must be from 1 to {limits.waiting}, not {shown(n)}", param="n")


def _seeds(draft: Draft, limits: LimitsTable, draw_seed: Callable[[], int]) -> tuple[int, ...]:
    check_count(draft.n, limits)
    if draft.seed is not None and not -1 <= draft.seed < SEEDS:
        raise BadRequest(
            f"seed must be from 0 to {SEEDS - 1}, or -1 for a random one", param="seed"
        )
    first = draft.seed
    if first is None or first == -1:
        # So that each of the n can be asked for again.
        first = draw_seed() % (draft.seeds_below - draft.n + 1)
    return tuple((first + i) % SEEDS for i in range(draft.n))
