"""A checkpoint in a single file, as people pass them on: its parts as those of diffusers.

The file holds numbers only. What it says nothing of (how the parts are built, their tokenizers, and
whole parts that it lacks) is in the base, a diffusers folder of the same architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file import load_single_file_sub_model
from safetensors.torch import load_file

from models import headers
from models.canvas import Unloadable

T5 = "text_encoders.t5xxl."
SCALED = (
    "scaled_fp8",
    ".scale_weight",
    ".weight_scale",
)  # marks of numbers that need a factor each
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
        if path.suffix != ".safetensors":
            raise Unloadable(f"{path} is no .safetensors file; nothing else is opened")
        tensors = load_file(path)
        if odd := [name for name in tensors if name.endswith(SCALED)]:
            raise Unloadable(
                f"{path} is quantised with scales ({odd[0]}), which is not read here; "
                "files in 16 bits, or in plain fp8, are"
            )
        return cls(path, tensors)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the names of the parts in it start with."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        return headers.covered(shapes)

    @property
    def holds_t5(self) -> bool:
        """Whether it brings the largest of its text encoders, which some leave out."""
        return any(name.startswith(T5) for name in self.tensors)

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
                checkpoint=dict(self.tensors),  # which it takes apart
                pipelines=diffusers.pipelines,
                is_pipeline_module=False,
                cached_model_config_path=str(base),
                local_files_only=True,
                torch_dtype=dtype,
            )
        except NotImplementedError as error:  # a tensor that was given no numbers cannot be moved
            raise Unloadable(f"{self.path} lacks tensors of the {name} in {base}") from error
        return model.eval()

    def settle(self, pipe: Any) -> None:
        """Bring the noise schedule to how the file says that it was trained."""
        if V_PREDICTION not in self.tensors:
            return
        changes: dict[str, Any] = {"prediction_type": "v_prediction"}
        if ZERO_SNR in self.tensors:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **changes)
