"""Stable Diffusion 1.x and 2.x: text to image, image to image, inpainting with 4 or 9 channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from torch.nn import functional

from models import audit, device, preview
from models.canvas import BadJob, Call, Easel
from models.contract import Image, Job, ModelSpec, Task
from models.merge import SharedCall
from models.pixels import from_tensor, to_pillow
from models.shell import shell

PIPELINES: Mapping[Task, Any] = {
    "generate": StableDiffusionPipeline,
    "edit": StableDiffusionImg2ImgPipeline,
    "inpaint": StableDiffusionInpaintPipeline,
}

# Name → class and what it changes in the model's own scheduler config.
SCHEDULERS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (EulerDiscreteScheduler, {"use_karras_sigmas": False}),
    "euler_karras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),
}


def load(spec: ModelSpec, device_name: str) -> "StableDiffusion":
    """Load and audit a diffusers folder.

    Raises:
        Unloadable: the folder, or what was asked for beside it, cannot be served.
    """
    target = device.choose(device_name)
    kinds = {pipeline.__name__ for pipeline in PIPELINES.values()}
    pipe: Any = audit.load(Path(spec.path), kinds, device.dtype_for(spec.dtype, target), target)
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)  # convolutions are faster, on CPUs as on GPUs
    return StableDiffusion(pipe, preview.fit(pipe.vae), spec.scheduler)


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """A loaded checkpoint."""

    pipe: Any
    projection: preview.Projection
    scheduler: str  # a name of SCHEDULERS; empty: the checkpoint's own

    @property
    def tasks(self) -> tuple[Task, ...]:
        """A UNet of 9 channels is shown the mask and the masked image, and needs them."""
        return ("inpaint",) if self.pipe.unet.config.in_channels == 9 else tuple(PIPELINES)

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        """One call of the stock pipeline of the job's task, stopped at every forward."""
        if job.task not in self.tasks:
            raise BadJob("this checkpoint only inpaints; send an image and a mask")
        watch = Watch(easel, self.projection)
        own = shell(self.pipe, PIPELINES[job.task], watch.ask, scheduler=self._scheduler(job))
        self._note_limits(job, easel)
        with device.named_faults():
            picture = own(
                **self._arguments(job, inputs, mask),
                generator=torch.Generator("cpu").manual_seed(job.seeds[index]),
                output_type="pt",
                callback_on_step_end=watch.on_step_end,
                callback_on_step_end_tensor_inputs=watched(own),
            ).images[0]
            return from_tensor(picture)

    def settle(self) -> None:
        """Wait for the device."""
        device.settle(self.pipe.device)

    def _scheduler(self, job: Job) -> Any:
        """A scheduler of the canvas's own; None leaves a copy of the checkpoint's."""
        name = job.scheduler or self.scheduler
        if not name:
            return None
        if name not in SCHEDULERS:
            raise BadJob(f"scheduler {name} is unknown; there are {', '.join(SCHEDULERS)}")
        kind, changes = SCHEDULERS[name]
        return kind.from_config(self.pipe.scheduler.config, **changes)

    def _arguments(self, job: Job, inputs: Sequence[Image], mask: Image | None) -> dict[str, Any]:
        """The job in the words of the task's pipeline."""
        common: dict[str, Any] = {
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt,
            "num_inference_steps": job.steps,
            "guidance_scale": job.guidance,
        }
        size = {"height": job.height, "width": job.width}
        if job.task == "generate":
            return common | size
        if not inputs or (job.task == "inpaint" and mask is None):
            raise BadJob(f"the task {job.task} came without its images")
        common |= {"image": to_pillow(inputs[0]), "strength": job.strength}
        if job.task == "edit":
            return common  # the size is the image's
        assert mask is not None
        return common | size | {"mask_image": whole_cells(mask, self.pipe.vae_scale_factor)}

    def _note_limits(self, job: Job, easel: Easel) -> None:
        tokenizer = self.pipe.tokenizer
        room = tokenizer.model_max_length - 2  # less the start and end marks
        for name, text in (("prompt", job.prompt), ("negative_prompt", job.negative_prompt)):
            words = len(tokenizer(text, truncation=False).input_ids) - 2
            if words > room:
                easel.note(f"{name}: only the first {room} of its {words} tokens were read")
        if job.negative_prompt and job.guidance <= 1:
            easel.note("negative_prompt: has no effect at a guidance of 1 or less")


def whole_cells(mask: Image, cell: int) -> Any:
    """The mask grown to whole latents of `cell` px: sampling one pixel of each could miss strokes.

    Pixels that the caller did not mask are pasted back later, so growing costs nothing.
    """
    pixels = torch.frombuffer(bytearray(mask.pixels), dtype=torch.uint8)
    marked = (pixels.view(1, 1, mask.height, mask.width) >= 128).float()
    cells = functional.max_pool2d(marked, cell)
    grown = functional.interpolate(cells, scale_factor=cell, mode="nearest") * 255
    return to_pillow(
        Image(mask.width, mask.height, "L", grown.to(torch.uint8).contiguous().numpy().tobytes())
    )


def watched(own: Any) -> list[str]:
    """What the step callback is to be given; the prediction is not offered unless declared."""
    own._callback_tensor_inputs = [*own._callback_tensor_inputs, "noise_pred"]
    return ["latents", "noise_pred"]


@dataclass(slots=True)
class Watch:
    """The easel as the pipeline sees it: remembers what the denoiser was shown, reports steps."""

    easel: Easel
    projection: preview.Projection
    seen: torch.Tensor | None = None  # the last noisy latents, scaled to unit variance

    def ask(self, call: Call) -> Any:
        """Pass the call on."""
        shared: SharedCall = call.arguments
        if shared.method == "forward":
            self.seen = shared.arguments["sample"]
        return self.easel.ask(call)

    def on_step_end(
        self, own: Any, i: int, t: torch.Tensor, values: dict[str, Any]
    ) -> dict[str, Any]:
        """diffusers' callback; changes nothing."""

        def render() -> Image:
            assert self.seen is not None
            prediction = values["noise_pred"][-1]
            noisy = self.seen[-1, : len(prediction)]  # 9-channel models are shown the mask as well
            clean = predicted(own.scheduler, noisy, prediction, float(t))
            return self.projection.render(clean / own.vae.config.scaling_factor)

        self.easel.step(i + 1, own.num_timesteps, render)
        return {}


def predicted(
    scheduler: Any, noisy: torch.Tensor, prediction: torch.Tensor, time: float
) -> torch.Tensor:
    """The clean latents that a prediction at `time` amounts to, whatever the scheduler.

    What the denoiser is shown has unit variance under every scheduler, so the training's noise
    levels suffice; a time between two of them is rounded.
    """
    alpha = scheduler.alphas_cumprod[round(time)].to(noisy)
    signal, noise = alpha.sqrt(), (1 - alpha).sqrt()
    if scheduler.config.prediction_type == "v_prediction":
        return signal * noisy - noise * prediction
    if scheduler.config.prediction_type == "sample":
        return prediction
    return (noisy - noise * prediction) / signal
