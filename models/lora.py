"""Low-rank adapters: small changes to a checkpoint's weights, worn for some canvases only.

They sit on shared weights, so every canvas sees those that are worn at the moment: each forward and
each reading of a prompt puts on its own set first. With none, the weights are the checkpoint's own.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from models.canvas import BadJob, Unloadable
from models.contract import LoraSpec

LoraSet: TypeAlias = tuple[tuple[str, float], ...]  # name and weight of each
MOST = 8  # adapters that stay attached to a checkpoint


@dataclass(slots=True)
class Loras:
    """The adapters of one loaded checkpoint, read from their files when first asked for."""

    pipe: Any
    files: Mapping[str, Path]
    worn: LoraSet = ()
    attached: list[str] = field(default_factory=list[str])  # the most recently worn last
    aside: list[tuple[Any, str, Any]] = field(default_factory=list[tuple[Any, str, Any]])

    @classmethod
    def of(cls, pipe: Any, specs: Sequence[LoraSpec]) -> "Loras":
        """None of them attached yet."""
        return cls(pipe, {spec.name: Path(spec.path) for spec in specs})

    def wear(self, wanted: LoraSet) -> None:
        """Have exactly these act from now on.

        Raises:
            BadJob: one is unknown.
            Unloadable: one is unreadable, or made for another architecture.
        """
        if wanted == self.worn:
            return
        if not wanted:
            self._undress()
            self.worn = ()
            return
        self.worn = (("", 0.0),)  # unknown, should attaching fail
        self._dress()
        for name, _ in wanted:
            self._attach(name)
        names, weights = zip(*wanted, strict=True)
        self.pipe.set_adapters(list(names), adapter_weights=list(weights))
        self.worn = wanted
        self._let_go(names)

    def _undress(self) -> None:
        """Put the checkpoint's own layers where peft has wrapped them.

        Switched off in place, wrappers would still cost each forward their calls, and a compiled
        network is one without them.
        """
        for part in self.pipe.components.values():
            if isinstance(part, torch.nn.Module):
                self.aside += wrapped(part)
        for parent, name, wrapper in self.aside:
            setattr(parent, name, wrapper.get_base_layer())

    def _dress(self) -> None:
        """Put the wrappers back."""
        for parent, name, wrapper in self.aside:
            setattr(parent, name, wrapper)
        self.aside.clear()

    def _attach(self, name: str) -> None:
        if name in self.attached:
            self.attached.remove(name)
        else:
            self._read(name)
        self.attached.append(name)

    def _read(self, name: str) -> None:
        if name not in self.files:
            known = ", ".join(self.files) or "none"
            raise BadJob(f"there is no LoRA {name}; there are: {known}")
        path = self.files[name]
        try:
            with warnings.catch_warnings():
                # peft wonders at a second adapter, which is what is wanted.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                self.pipe.load_lora_weights(
                    path.parent, weight_name=path.name, adapter_name=name, local_files_only=True
                )
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:  # libraries raise a dozen classes for a file that does not fit
            raise Unloadable(f"LoRA {name}: {type(error).__name__}: {error}") from error
        if not any(name in names for names in self.pipe.get_list_adapters().values()):
            raise Unloadable(f"LoRA {name}: {path} is made for another architecture")

    def _let_go(self, needed: Sequence[str]) -> None:
        """Detach what has not been worn for longest, beyond as many as may stay."""
        for name in [each for each in self.attached if each not in needed]:
            if len(self.attached) <= MOST:
                return
            self.pipe.delete_adapters(name)
            self.attached.remove(name)


def wrapped(network: torch.nn.Module) -> list[tuple[Any, str, Any]]:
    """Every layer that peft has wrapped: whose it is, its name there, and the wrapper."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # slow, and here by now or not needed

    return [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, BaseTunerLayer)
    ]


@dataclass(frozen=True, slots=True)
class Dress:
    """What one canvas wears whenever the network works for it."""

    loras: Loras
    wanted: LoraSet

    def put_on(self) -> None:
        """See `Loras.wear`."""
        self.loras.wear(self.wanted)
