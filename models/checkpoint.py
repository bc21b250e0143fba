"""A loaded diffusers checkpoint, painting through the stock pipelines of its family.

The loop over steps is diffusers' own; what tells one architecture from another is its `Family`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image as Pillow

from models import audit, device, eight, offload, preview
from models.canvas import BadJob, Easel, Unloadable
from models.contract import Image, Job, ModelSpec, Task
from models.enlarging import Enlarger, enlarger_of
from models.lora import Dress, Loras
from models.merge import Way, plainly
from models.pixels import delivered, to_pillow
from models.preview import Preview
from models.recall import Recall
from models.shell import shell
from models.shortcuts import Shortcuts
from models.tuning import tuned
from models.watch import Watch, watched

Pipelines: TypeAlias = Mapping[Task, Any]  # the pipeline class that paints a task


def by_class(*sets: Pipelines) -> Mapping[str, Pipelines]:
    """The sets under the name of each class in them, any of which a folder may name."""
    return {kind.__name__: pipelines for pipelines in sets for kind in pipelines.values()}


@dataclass(frozen=True, slots=True)
class Images:
    """The pictures of a job as pipelines take them; the mask is white where to repaint."""

    inputs: Sequence[Pillow.Image] = ()
    mask: Pillow.Image | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads the prompt (the encoder with the longest view), and how much of it."""

    tokenizer: Any
    room: int  # tokens of the bare text

    def tokens(self, text: str) -> int:
        """Tokens of the bare text."""
        if not text:
            return 0
        return len(self.tokenizer(text, truncation=False, add_special_tokens=False).input_ids)


def as_its_class_says(pipe: Any, pipelines: Pipelines) -> tuple[Task, ...]:
    """Every task that has a pipeline."""
    return tuple(pipelines)


def above_one(pipe: Any, guidance: float) -> bool:
    """Classifier-free guidance: off at 1, where it has no effect."""
    return guidance > 1


def as_loaded(pipe: Any) -> None:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What one architecture wants: knowledge, asked of a loaded pipeline `pipe`; no loop.

    Attributes:
        pipelines: by the pipeline class that a folder names, what paints each task; the plainest
            task first.
        arguments: (pipe, pipeline class, job, images) → the arguments that say what the job says,
            but for the prompt, the steps and the seed.
        unpack: (pipe, latents as the steps have them, without a batch dimension, job) → latents
            of shape (channels, h, w) as the VAE decodes them.
        reading: how much of a prompt is read.
        negates: (pipe, guidance) → whether a negative prompt acts.
        tasks: what these weights can do, where their class does not tell.
        schedulers: name → class, and what it changes in the checkpoint's own scheduler config.
        optional: components that a folder may lack.
        prepare: what is to be done once, after loading and before it goes to its device.
    """

    pipelines: Mapping[str, Pipelines]
    arguments: Callable[[Any, Any, Job, Images], dict[str, Any]]
    unpack: Callable[[Any, torch.Tensor, Job], torch.Tensor]
    reading: Callable[[Any], Reading]
    negates: Callable[[Any, float], bool] = above_one
    tasks: Callable[[Any, Pipelines], tuple[Task, ...]] = as_its_class_says
    schedulers: Mapping[str, tuple[Any, Mapping[str, Any]]] | None = None
    optional: tuple[str, ...] = ()
    prepare: Callable[[Any], None] = as_loaded

    def load(self, spec: ModelSpec, device_name: str) -> "Checkpoint":
        """Load and audit a diffusers folder, or a single file.

        Raises:
            Unloadable: the checkpoint, or what was asked for beside it, cannot be served.
            OutOfMemory, DeviceLost: see `device.named_faults`.
        """
        target = device.choose(device_name)
        if spec.scheduler and spec.scheduler not in (self.schedulers or ()):
            known = ", ".join(self.schedulers or ()) or "none to choose from"
            raise Unloadable(f"scheduler {spec.scheduler} is unknown here; there are: {known}")
        dtype = device.dtype_for(spec.dtype, target)
        with device.named_faults():
            base = Path(spec.base) if spec.base else None
            pipe: Any = audit.load(Path(spec.path), self.pipelines, dtype, self.optional, base)
        return self.adopt(pipe, spec, target)

    def adopt(self, pipe: Any, spec: ModelSpec, target: torch.device) -> "Checkpoint":
        """Make a pipeline of one of `pipelines` ready to paint on a device, wherever it came from.

        Raises:
            Unloadable: what was asked for beside it cannot be served.
            OutOfMemory, DeviceLost: see `device.named_faults`.
        """
        with device.named_faults():
            self.prepare(pipe)
            eight.reduce(pipe, spec, target)
            offload.place(pipe, spec.offload, target)
            way = tuned(pipe, spec, target)
            shown = preview.of(pipe.vae, Path(spec.preview) if spec.preview else None)
            return Checkpoint(
                pipe,
                target,
                self,
                shown,
                self.reading(pipe),
                spec.scheduler,
                Loras.of(pipe, spec.loras),
                way=way,
                shortcuts=Shortcuts.of(pipe, spec),
                fp8=spec.tuning.fp8,
                enlarger=enlarger_of(spec, target),
            )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights and the knowledge of their family: a `models.canvas.Model`."""

    pipe: Any
    device: torch.device
    family: Family
    preview: Preview
    reading: Reading
    scheduler: str  # one of the family's; empty: the checkpoint's own
    loras: Loras
    way: Way = plainly  # how its forwards are run
    shortcuts: Shortcuts | None = None
    fp8: bool = False  # whether its large layers are in 8 bits
    enlarger: Enlarger | None = None
    recall: Recall = field(default_factory=Recall)

    @property
    def pipelines(self) -> Pipelines:
        """What paints each task."""
        return self.family.pipelines[type(self.pipe).__name__]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can do, the plainest first."""
        return self.family.tasks(self.pipe, self.pipelines)

    def paint(
        self, job: Job, index: int, inputs: Sequence[Image], mask: Image | None, easel: Easel
    ) -> Image:
        """One call of the stock pipeline of the job's task, stopped at every forward.

        Raises:
            BadJob: these weights cannot do the task, or its images are missing.
            NotFinite: see `pixels.delivered`.
        """
        kind = self._kind(job, inputs, mask)
        images = Images([to_pillow(image) for image in inputs], mask and to_pillow(mask))
        said = self.family.arguments(self.pipe, kind, job, images)
        share = said.get("strength", 1.0)
        shortcut = self.shortcuts and self.shortcuts.canvas(job, share, self.way)
        ended = shortcut and shortcut.end_step
        watch = Watch(easel, lambda latents: self._render(latents, job), ended)
        dress = Dress(self.loras, job.loras) if self.loras.files else None
        own = shell(
            *(self.pipe, kind, watch.ask, easel.note, self.device),
            scheduler=self._scheduler(job),
            dress=dress,
            way=self.way,
            alone=shortcut,
        )
        self.recall.attach(own, dress and dress.wanted)
        if dress is not None:
            with device.named_faults():
                dress.put_on()  # for the text encoders, which read before the first stop
        self._note_limits(job, easel)
        if job.task != "generate" and job.strength < 1 and "strength" not in said:
            easel.note("strength: not used: this model follows the prompt as an instruction")
        with device.named_faults():
            picture = own(
                prompt=job.prompt,
                num_inference_steps=job.steps,
                **said,
                generator=torch.Generator("cpu").manual_seed(job.seeds[index]),
                output_type="pt",
                callback_on_step_end=watch.on_step_end,
                callback_on_step_end_tensor_inputs=watched(own),
            ).images[0]
            if shortcut is not None:
                shortcut.tell(easel, own.num_timesteps)
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

    def _kind(self, job: Job, inputs: Sequence[Image], mask: Image | None) -> Any:
        if job.task not in self.tasks:
            raise BadJob(f"these weights do {', '.join(self.tasks)}, and not {job.task}")
        if (job.task != "generate" and not inputs) or (job.task == "inpaint" and mask is None):
            raise BadJob(f"the task {job.task} came without its images")
        return self.pipelines[job.task]

    def _scheduler(self, job: Job) -> Any:
        """A scheduler of the canvas's own; None leaves a copy of the checkpoint's."""
        name = job.scheduler or self.scheduler
        if not name:
            return None
        if name not in (self.family.schedulers or ()):
            raise BadJob(f"scheduler {name} is unknown")
        assert self.family.schedulers is not None
        kind, changes = self.family.schedulers[name]
        return kind.from_config(self.pipe.scheduler.config, **changes)

    def _render(self, latents: torch.Tensor, job: Job) -> Image:
        return self.preview.render(self.family.unpack(self.pipe, latents, job))

    def _note_limits(self, job: Job, easel: Easel) -> None:
        if self.fp8:
            easel.note(eight.LABEL)
        negates = self.family.negates(self.pipe, job.guidance)
        texts = {"prompt": job.prompt, "negative_prompt": job.negative_prompt if negates else ""}
        for name, text in texts.items():
            tokens, room = self.reading.tokens(text), self.reading.room
            if tokens > room:
                easel.note(f"{name}: only the first {room} of its {tokens} tokens were read")
        if job.negative_prompt and not negates:
            easel.note("negative_prompt: has no effect with this model at this guidance")
