"""A pipeline object of one's own: shared weights, but its own scheduler and attributes.

Two calls on one diffusers pipeline corrupt each other silently, so each canvas calls its own shell,
which costs a third of a millisecond. The shared modules are replaced by stand-ins, so that every
forward stops the canvas.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from diffusers import DiffusionPipeline

from models.canvas import Call
from models.merge import StandIn, paused

# Constructor arguments that are settings rather than components; kept in the pipeline's config.
SETTINGS = (
    "requires_safety_checker",
    "is_distilled",
    "text_encoder_select_layers",
    "force_zeros_for_empty_prompt",
)


def denoiser_name(pipe: DiffusionPipeline) -> str:
    """Under what name the pipeline keeps the network that its steps call."""
    return "unet" if "unet" in pipe.components else "transformer"


def shell(
    pipe: DiffusionPipeline,
    kind: type[DiffusionPipeline],
    ask: Callable[[Call], Any],
    *,
    scheduler: Any = None,
    merging: bool = True,
) -> Any:
    """A `kind` of pipeline over the components of `pipe`, stopping at its denoiser and decoder.

    Args:
        ask: the easel's `ask`.
        scheduler: a scheduler of the caller's own; by default a copy of the pipeline's.
        merging: whether its forwards may be shared with other canvases.
    """
    denoiser = denoiser_name(pipe)
    parts: dict[str, Any] = dict(pipe.components)
    parts["scheduler"] = copy.deepcopy(pipe.scheduler) if scheduler is None else scheduler
    for name, method in ((denoiser, "forward"), ("vae", "decode")):
        module = parts[name]
        parts[name] = StandIn(module, **{method: paused(module, method, ask, merging=merging)})
    wanted = inspect.signature(kind.__init__).parameters
    settings: Mapping[str, Any] = pipe.config
    own = kind(
        **{name: part for name, part in parts.items() if name in wanted},
        **{name: settings[name] for name in SETTINGS if name in wanted and name in settings},
    )
    own.set_progress_bar_config(disable=True)
    return own
