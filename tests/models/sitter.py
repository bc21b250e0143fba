"""Ways to have a tiny checkpoint paint: in a studio among others, or by itself and looked at."""

import gc
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import families
from models.canvas import Model
from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Failed, Finished, Image, Job, ModelSpec
from models.studio import Studio
from tests.models.stock import FAMILY_OF, HEIGHT, WIDTH, mask, picture, raw


class Run:
    """A studio, and what came out of it."""

    def __init__(self, model: Model) -> None:
        self.events: list[AnyEvent] = []
        self.studio = Studio(self.events.append)
        for kind in ("forward", "decode"):
            self.studio.cap("tiny", kind, 8)
        self._model = model

    def start(self, asked: Job, index: int = 0) -> None:
        inputs = [raw(picture(1))] if asked.inputs else []
        marked = raw(mask()) if asked.masked else None
        self.studio.start(self._model, asked, index, inputs, marked)

    def finish(self) -> int:
        ticks = 0
        while len(self.studio):
            self.studio.tick()
            ticks += 1
        return ticks

    def cancel(self) -> None:
        """After the first step."""
        self.studio.tick()
        self.studio.close()

    def frees(self, asked: Job, end: "Callable[[Run], Any]") -> bool:
        """Whether nothing of a canvas waits for the collector when it has ended so."""
        gc.disable()
        try:
            self.start(asked)
            canvas = weakref.ref(self.studio._canvases[asked.id, 0])
            end(self)
            deadline = time.monotonic() + 5
            while canvas() is not None and time.monotonic() < deadline:
                time.sleep(0.01)  # its thread may be in its last instruction
            return canvas() is None
        finally:
            gc.enable()

    def pixels(self, name: str) -> np.ndarray:
        (end,) = [e for e in self.events if isinstance(e, Finished | Failed) and e.job == name]
        assert isinstance(end, Finished), end
        return np.frombuffer(end.image.pixels, np.uint8).reshape(HEIGHT, WIDTH, 3)


class Sitter:
    """An easel that runs every call at once and looks at every step; it keeps what is decoded."""

    def __init__(self) -> None:
        self.decoded: list[torch.Tensor] = []
        self.told = torch.empty(0)
        self.previews: list[Image] = []

    def ask(self, call: Any) -> Any:
        if call.kind == "decode":
            self.decoded.append(call.arguments.arguments["z"])
        if call.kind == "forward":
            said = call.arguments.arguments
            self.told = (
                said["cap_feats"][0] if "cap_feats" in said else said["encoder_hidden_states"]
            )
        return call.run([call])[0]

    def step(self, done: int, of: int, preview: Callable[[], Image] | None = None) -> None:
        assert preview is not None
        self.previews.append(preview())

    def note(self, text: str) -> None:
        assert text.startswith("prompt: only the first"), text


def load(name: str, folder: Path, **said: object) -> Checkpoint:
    """The checkpoint that is called so in `tiny`, loaded by its family."""
    family = FAMILY_OF[name]
    spec = ModelSpec(id="tiny", family=family, path=str(folder), width=WIDTH, height=HEIGHT, **said)
    model = families.loader(family)(spec, "cpu")
    assert isinstance(model, Checkpoint)
    return model


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
