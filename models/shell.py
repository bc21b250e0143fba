"""A pipeline object of one's own: shared weights, but its own scheduler and attributes.

Two calls on one diffusers pipeline corrupt each other silently, so each canvas calls its own shell,
which costs a third of a millisecond. The shared modules are replaced by stand-ins, so that every
forward stops the canvas.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.configuration_utils import FrozenDict

from models.canvas import Call
from models.lora import Dress
from models.merge import StandIn, Way, paused, plainly
from models.signatures import signature_of, told_at_once
from models.tiles import or_in_tiles

# Constructor arguments that are settings rather than components; kept in the pipeline's config.
SETTINGS = (
    "requires_safety_checker",
    "is_distilled",
    "text_encoder_select_layers",
    "force_zeros_for_empty_prompt",
    "requires_aesthetics_score",
    "add_watermarker",
)
UNMARKED = {"add_watermarker": False}  # SDXL's pipelines would mark pictures in a way of their own


def denoiser_name(pipe: DiffusionPipeline) -> str:
    """Under what name the pipeline keeps the network that its steps call."""
    return "unet" if "unet" in pipe.config else "transformer"


@functools.cache
def standing(kind: type[DiffusionPipeline], target: torch.device) -> type[Any]:
    """The same pipeline, told where its networks run.

    diffusers finds that out for every picture by walking all modules of all parts, in search of
    hooks; for the smallest of models that takes as long as the rest of a shell and its scheduler.
    """
    told_at_once(kind.__init__)
    return type(kind.__name__, (kind,), {"_execution_device": target})


def shell(
    pipe: DiffusionPipeline,
    kind: type[DiffusionPipeline],
    ask: Callable[[Call], Any],
    note: Callable[[str], None],
    target: torch.device,
    *,
    scheduler: Any = None,
    merging: bool = True,
    dress: Dress | None = None,
    way: Way = plainly,
    alone: Way | None = None,
) -> Any:
    """A `kind` of pipeline over the components of `pipe`, stopping at its denoiser and decoder.

    Args:
        ask: the easel's `ask`.
        note: the easel's `note`.
        target: the device that its networks run on.
        scheduler: a scheduler of the caller's own; by default a copy of the pipeline's.
        merging: whether its forwards may be shared with other canvases.
        dress: the adapters that the denoiser is to wear.
        way: how its forwards are run.
        alone: how those of its denoiser are run instead, none of them shared.
    """
    name = denoiser_name(pipe)
    parts: dict[str, Any] = dict(pipe.components)
    parts["scheduler"] = own_copy(pipe.scheduler) if scheduler is None else scheduler
    denoiser, vae = parts[name], parts["vae"]
    forward = paused(
        *(denoiser, "forward", ask),
        merging=merging and alone is None,
        dress=dress,
        way=alone or way,
    )
    parts[name] = StandIn(denoiser, forward=forward)
    decode = or_in_tiles(vae, paused(vae, "decode", ask, merging=merging, way=way), ask, note)
    parts["vae"] = StandIn(vae, decode=cast(vae, decode), encode=cast(vae, vae.encode))
    wanted = signature_of(kind, "__init__").parameters
    settings: Mapping[str, Any] = pipe.config | UNMARKED
    own = standing(kind, target)(
        **{part: parts[part] for part in parts if part in wanted},
        **{key: settings[key] for key in SETTINGS if key in wanted and key in settings},
    )
    own.set_progress_bar_config(disable=True)
    return own


def own_copy(scheduler: Any) -> Any:
    """A scheduler of one's own, but for its tables, which no scheduler changes in place. To copy
    those, and its config down to the last number, would take longer than all the rest."""
    parts = vars(scheduler).values()
    shared = {id(part): part for part in parts if isinstance(part, torch.Tensor)}
    configs = {id(part): FrozenDict(part) for part in parts if isinstance(part, FrozenDict)}
    return copy.deepcopy(scheduler, shared | configs)


def cast(vae: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, its first argument brought to the VAE's own precision.

    Pipelines do it the other way round, and change the weights that other canvases use.
    """

    dtype = next(vae.parameters()).dtype  # what `vae.dtype` looks for in every module

    def replacement(value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return method(value.to(dtype), *args, **kwargs)

    return replacement
