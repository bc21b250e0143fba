"""What a shipped model is asked for through the studio, and the marks that its pictures get.

The bars of the tests lie well under the gate that a model passes before it ships.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint import Checkpoint
from models.contract import AnyEvent, Finished, Image, Job, ModelSpec, Task, Tuning
from models.demo.captions import full_caption
from models.demo.measures import Marks, look, mark, middle
from models.demo.scenes import PALETTE, SIDE, SQUARE, Frame, Scene
from models.families import flux, sd
from models.studio import Studio

DEMO = Path(__file__).parents[2] / "models" / "demo"
STEPS = 8
FAMILIES = {"sd": sd.FAMILY, "flux": flux.FAMILY}


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model that ships with limner, loaded as a worker loads it."""

    name: str
    checkpoint: Checkpoint

    def wish(
        self,
        number: int,
        prompt: str,
        guidance: float = 4.0,
        task: Task = "generate",
        frame: Frame = SQUARE,
        negative: str = "",
        steps: int = STEPS,
    ) -> Job:
        return Job(
            id=f"{self.name} {number}",
            model=self.name,
            task=task,
            prompt=prompt,
            negative_prompt=negative,
            width=frame[0],
            height=frame[1],
            steps=steps,
            guidance=guidance,
            seeds=(number,),
            inputs=0 if task == "generate" else 1,
            masked=task == "inpaint",
        )

    def paint(
        self, jobs: Sequence[Job], base: Image | None = None, mask: Image | None = None
    ) -> list[np.ndarray]:
        bases = [base] if base else []
        return finished([(self, job, bases, mask) for job in jobs])

    def painted(self, asked: Sequence[Scene], guidance: float = 4.0) -> list[np.ndarray]:
        return self.paint(
            [
                self.wish(i, full_caption(scene), guidance, frame=scene.frame)
                for i, scene in enumerate(asked)
            ]
        )

    def marks(self, asked: Sequence[Scene], guidance: float = 4.0) -> list[Marks]:
        pictures = self.painted(asked, guidance)
        return [mark(look(picture), scene) for picture, scene in zip(pictures, asked, strict=True)]


Order = tuple[Shipped, Job, list[Image], Image | None]


def shipped(name: str, family: str, **tuning: Any) -> Shipped:
    spec = ModelSpec(
        id=name,
        family=family,
        path=str(DEMO / name),
        width=SIDE,
        height=SIDE,
        tuning=Tuning(**tuning),
    )
    return Shipped(name, FAMILIES[family].load(spec, "cpu"))


def finished(orders: Sequence[Order]) -> list[np.ndarray]:
    """The pictures of all the orders, painted in one studio at the same time."""
    events: list[AnyEvent] = []
    studio = Studio(events.append)
    for model, job, bases, mask in orders:
        studio.cap(model.name, "forward", 8)
        studio.start(model.checkpoint, job, 0, bases, mask)
    while len(studio):
        studio.tick()
    images = {event.job: event.image for event in events if isinstance(event, Finished)}
    return [
        np.frombuffer(images[job.id].pixels, np.uint8).reshape(job.height, job.width, 3)
        for _, job, _, _ in orders
    ]


def plain(color: str) -> Image:
    """A picture of one colour."""
    return Image(SIDE, SIDE, "RGB", bytes(PALETTE[color]) * SIDE**2)


def hole() -> Image:
    """A mask of the middle."""
    return Image(SIDE, SIDE, "L", np.where(middle(), 255, 0).astype(np.uint8).tobytes())
