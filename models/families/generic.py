"""Any diffusers pipeline: the same jobs, events, cancel and errors; no previews, never merged.

Knows nothing of the architecture: hands over the arguments that the pipeline's signature names.
"""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import audit, device, offload
from models.canvas import BadJob, Easel, Unloadable
from models.contract import Image, Job, ModelSpec, Task
from models.enlarging import Enlarger, enlarger_of
from models.pixels import delivered, to_pillow
from models.shell import denoiser_name, shell


def load(spec: ModelSpec, device_name: str) -> "Generic":
    """Load and audit a checkpoint of any pipeline class.

    Raises:
        Unloadable: the checkpoint, or what was asked for beside it, cannot be served.
    """
    target = device.choose(device_name)
    if spec.scheduler:
        raise Unloadable("scheduler: a model of the generic family keeps its own")
    base = Path(spec.base) if spec.base else None
    kind = str(audit.read_index(base or Path(spec.path))["_class_name"])
    dtype = device.dtype_for(spec.dtype, target)
    pipe: Any = audit.load(Path(spec.path), {kind}, dtype, base=base)
    if "vae" not in pipe.components or denoiser_name(pipe) not in pipe.components:
        raise Unloadable(f"{kind} has no vae, unet or transformer to stop at")
    with device.named_faults():
        offload.place(pipe, spec.offload, target)
        return Generic(pipe, target, enlarger_of(spec, target))


@dataclass(frozen=True, slots=True)
class Generic:
    """A loaded pipeline of whatever kind."""

    pipe: Any
    device: torch.device
    enlarger: Enlarger | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Told by the arguments that the pipeline takes."""
        parameters = inspect.signature(type(self.pipe).__call__).parameters
        if "mask_image" in parameters:
            return ("inpaint",)
        image = parameters.get("image")
        if image is None:
            return ("generate",)
        return ("edit",) if "strength" in parameters else ("generate", "edit")

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        """One call of the pipeline, stopped at every forward."""
        kind = type(self.pipe)
        own = shell(self.pipe, kind, easel.ask, easel.note, self.device, merging=False)
        accepted = inspect.signature(own.__call__).parameters
        if job.task not in self.tasks:
            raise BadJob(f"{type(own).__name__} does not do the task {job.task}")
        note_unused(job, accepted, easel)
        arguments = self._arguments(job, inputs, mask, easel)
        with device.named_faults():
            picture = own(
                **{name: value for name, value in arguments.items() if name in accepted},
                generator=torch.Generator("cpu").manual_seed(job.seeds[index]),
                output_type="pt",
            ).images[0]
            if job.enlarge and self.enlarger is not None:
                picture = self.enlarger.enlarged(picture, easel)
            return delivered(picture, inputs[0] if inputs else None, easel)

    @property
    def size(self) -> int:
        """Bytes of its parts on the device."""
        parts = [*self.pipe.components.values(), self.enlarger and self.enlarger.network]
        return device.size(parts, self.device)

    def settle(self) -> None:
        """Wait for the device."""
        device.settle(self.device)

    def _arguments(
        self, job: Job, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> dict[str, Any]:
        def on_step_end(own: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            easel.step(i + 1, own.num_timesteps)
            return values

        arguments: dict[str, Any] = {
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt or None,
            "height": job.height,
            "width": job.width,
            "num_inference_steps": job.steps,
            "guidance_scale": job.guidance,
            "strength": job.strength,
            "callback_on_step_end": on_step_end,
        }
        if inputs:
            arguments["image"] = to_pillow(inputs[0])
        if mask is not None:
            arguments["mask_image"] = to_pillow(mask)
        return arguments


def note_unused(job: Job, accepted: Collection[str], easel: Easel) -> None:
    """Name what the request set and this pipeline has no argument for."""
    wishes = {
        "negative_prompt": ("negative_prompt", bool(job.negative_prompt)),
        "guidance": ("guidance_scale", True),
        "steps": ("num_inference_steps", True),
        "strength": ("strength", job.task == "edit"),
        "scheduler": ("", bool(job.scheduler)),
    }
    for field, (argument, asked) in wishes.items():
        if asked and argument not in accepted:
            easel.note(f"{field}: this model takes none")
    if job.inputs > 1:
        easel.note("images: only the first is used")
