"""A checkpoint in a single file, as people pass them on: its parts as those of diffusers.

The file holds numbers only. What it says nothing of (how the parts are built, their tokenizers, and
whole parts that it lacks) is in the base, a diffusers folder of the same architecture.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file import load_single_file_sub_model
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors.torch import load_file

from models import headers, weights
from models.canvas import Unloadable

ENCODERS = ("CLIPText", "T5Encoder")  # that are converted
SCALED = ("scaled_fp8", ".scale_weight", ".weight_scale")  # marks of numbers with factors
V_PREDICTION, ZERO_SNR = "v_pred", "ztsnr"  # tensors that say how a model was trained


@dataclass(frozen=True, slots=True)
class SingleFile:
    """An open file: `tensors` are mapped from the disk, and read when they are used."""

    path: Path
    tensors: Mapping[str, torch.Tensor]

    @classmethod
    def open(cls, path: Path) -> "SingleFile":
        """
        Raises:
            Unloadable: it is no `.safetensors` file, is damaged, or keeps its numbers in a way
                that nothing here reads.
        """
        if path.suffix.lower() != ".safetensors":
            raise Unloadable(f"{path} is no .safetensors file; nothing else is opened")
        tensors = load_file(path)
        if odd := [name for name in tensors if name.endswith(SCALED)]:
            raise Unloadable(
                f"{path} is quantised with scales ({odd[0]}), which is not read here; "
                "files in 16 bits, or in plain fp8, are"
            )
        return cls(path, tensors)

    def has(self, base: Path, name: str, class_name: str) -> bool:
        """Whether a part is to be taken from here: it is in here, and diffusers can convert it."""
        known = class_name in SINGLE_FILE_LOADABLE_CLASSES or class_name.startswith(ENCODERS)
        return known and weights.held(base, name, self.shapes)

    @property
    def shapes(self) -> headers.Shapes:
        """Of its tensors, by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def part(
        self, name: str, library: str, class_name: str, base: Path, dtype: torch.dtype
    ) -> torch.nn.Module:
        """One part, built as `base` says.

        Raises:
            Unloadable: tensors of it are missing.
        """
        try:
            model: Any = load_single_file_sub_model(
                library_name=library,
                class_name=class_name,
                name=name,
                checkpoint=self._bare() if name == "transformer" else dict(self.tensors),
                pipelines=diffusers.pipelines,
                is_pipeline_module=False,
                cached_model_config_path=str(base),
                local_files_only=True,
                torch_dtype=dtype,
            )
        except NotImplementedError as error:  # a tensor that was given no numbers cannot be moved
            raise Unloadable(f"{self.path} lacks tensors of the {name} in {base}") from error
        return model.eval()

    def _bare(self) -> dict[str, torch.Tensor]:
        """The tensors, those of the denoiser by the names that they have in a file of their own:
        not every converter looks for them elsewhere."""
        return {
            name.removeprefix(headers.INSIDE): each
            for name, each in self.tensors.items()
            if headers.part_of(name) != "other"
        }

    def settle(self, pipe: Any) -> None:
        """Bring the noise schedule to how the file says that it was trained."""
        if V_PREDICTION not in self.tensors:
            return
        kind: Any = type(pipe.scheduler)
        changes: dict[str, Any] = {"prediction_type": "v_prediction"}
        if ZERO_SNR in self.tensors:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
            if "rescale_betas_zero_snr" not in inspect.signature(kind).parameters:
                kind = diffusers.EulerDiscreteScheduler  # the base's own has no such schedule
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **changes)
