"""The shipped models run in this process, by diffusers' own pipeline: what serving is held to.

No HTTP, no sockets, no studio, no file: what is timed ends with pixels in a tensor. One thread, as
the shipped configuration has it.
"""

import time

import torch

from models.vision import LIBRARY as LIBRARY
from bench.subject import PROMPT, bare
from models.checkpoint import Checkpoint
from models.contract import Job
from models.families import loader
from models.merge import Forward
from server.settings.config import load
from server.settings.stock import model_spec


class Bare:
    """The pipeline, warmed up."""

    def __init__(self) -> None:
        config = load()
        torch.set_num_threads(config.worker.threads or 1)
        table = config.model[0]
        self.spec = model_spec(table)
        self.steps, self.guidance = table.steps, table.guidance
        model = loader(self.spec.family)(self.spec, "cpu")
        assert isinstance(model, Checkpoint)
        self.model = model
        self.paint(2)

    def paint(
        self,
        steps: int,
        seed: int = 1,
        canvases: int = 1,
        *,
        enlarge: bool = False,
        tuned: bool = False,
    ) -> float:
        """Seconds of one call that paints so many pictures, each of a prompt of its own.

        Args:
            enlarge: the network takes part that enlarges what is to be delivered larger.
            tuned: networks run as limner has them run, and not as diffusers does.
        """
        jobs = [self.job(steps, seed + canvas) for canvas in range(canvases)]

        def painted() -> torch.Tensor:
            return bare(self.model, *jobs)

        began = time.perf_counter()
        with torch.inference_mode(tuned):
            pictures = self.model.way(Forward(painted, {})) if tuned else painted()
        if enlarge and self.model.enlarger is not None:
            with torch.no_grad():
                self.model.enlarger.run(pictures)
        return time.perf_counter() - began

    def job(self, steps: int, seed: int) -> Job:
        """A picture at the size that the model paints best."""
        return Job(
            id="bare",
            model=self.spec.id,
            task="generate",
            prompt=f"{PROMPT} {seed}",
            width=self.spec.width,
            height=self.spec.height,
            steps=steps,
            guidance=self.guidance,
            seeds=(seed,),
        )
