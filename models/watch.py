"""The easel as a diffusers pipeline sees it: reports steps, and shows what is going to be.

The picture shown is the denoiser's prediction of the outcome, not the noisy state of the moment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from models.canvas import Call, Easel
from models.contract import Image
from models.merge import SharedCall


def watched(own: Any) -> list[str]:
    """What the step callback is to be given; the prediction is not offered unless declared."""
    own._callback_tensor_inputs = [*own._callback_tensor_inputs, "noise_pred"]
    return ["latents", "noise_pred"]


@dataclass(slots=True)
class Watch:
    """Stands between one canvas and its pipeline; `render` makes a picture of clean latents."""

    easel: Easel
    render: Callable[[torch.Tensor], Image]
    ended: Callable[[], None] | None = None  # told of each step, before the easel is
    seen: torch.Tensor | None = None  # the noisy latents that a UNet was shown last

    def ask(self, call: Call) -> Any:
        """Pass the call on."""
        if call.kind == "forward":
            shared: SharedCall = call.arguments
            self.seen = shared.arguments.get("sample")
        return self.easel.ask(call)

    def on_step_end(
        self, own: Any, i: int, t: torch.Tensor, values: dict[str, Any]
    ) -> dict[str, Any]:
        """diffusers' callback; changes nothing."""

        def picture() -> Image:
            prediction = values["noise_pred"][-1]
            if hasattr(own.scheduler, "alphas_cumprod"):
                assert self.seen is not None
                # Models with more channels in than out are shown a mask or an image beside it.
                clean = denoised(own.scheduler, self.seen[-1, : len(prediction)], prediction, t)
            else:
                clean = arrived(own.scheduler, values["latents"][-1], prediction)
            return self.render(clean)

        if self.ended is not None:
            self.ended()
        self.easel.step(i + 1, own.num_timesteps, picture)
        return {}


def denoised(
    scheduler: Any, noisy: torch.Tensor, prediction: torch.Tensor, time: Any
) -> torch.Tensor:
    """The clean latents that a diffusion model's prediction at `time` amounts to.

    What the denoiser is shown has unit variance under every scheduler, so the training's noise
    levels suffice; a time between two of them is rounded.
    """
    alpha = scheduler.alphas_cumprod[round(float(time))].to(noisy)
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    if scheduler.config.prediction_type == "v_prediction":
        return signal * noisy - noise * prediction
    if scheduler.config.prediction_type == "sample":
        return prediction
    return (noisy - noise * prediction) / signal


def arrived(scheduler: Any, latents: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
    """The clean latents at the end of the straight way that a flow model predicts.

    `latents` are those after the step, at the scheduler's noise level of now.
    """
    return latents - scheduler.sigmas[scheduler.step_index].to(latents) * velocity
