"""What compiling and recording gain for one checkpoint, in turns with it as it comes, and whether
the pictures stay the same: a stage of `bench.engine`.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

import torch

from bench.sitting import Sitting
from bench.stages import company
from bench.subject import WARM_STEPS, Figures, Subject, neat
from models import compilation
from models.checkpoint import Checkpoint
from models.graphs import Graphs
from models.merge import Forward, Way
from models.shell import denoiser_name

BACKEND = "inductor"


def tunings(subject: Subject) -> Figures:
    """Figures of each tuning that the device knows, under its name; each is kept at once."""
    model = subject.model
    parts = compilation.in_regions(
        *(getattr(model.pipe, denoiser_name(model.pipe)), model.pipe.vae.decoder), backend=BACKEND
    )
    eager = replace(model, way=plain(model.way))
    ways: dict[str, Way] = {"compile": model.way}
    if model.device.type == "cuda":  # first what takes no minutes
        ways = {"graphs": Graphs(eager.way), **ways, "compile+graphs": Graphs(model.way)}
    told: dict[str, Figures] = {}
    for name, way in ways.items():
        told[name] = against(subject, name, eager, replace(model, way=way))
        subject.keep({"compiled_parts": parts, "tunings": told})
    return {"compiled_parts": parts, "tunings": told}


def plain(way: Way) -> Way:
    """The way, nothing being compiled."""

    def run(forward: Forward) -> Any:
        with torch.compiler.set_stance("force_eager"):
            return way(forward)

    return run


def against(subject: Subject, name: str, eager: Checkpoint, tuned: Checkpoint) -> Figures:
    """One tuning in turns with the model as it comes; gated: the same pictures, nothing late.

    Not measured where it is to be recorded and nothing is: there it is the model as it comes.
    """
    job = subject.job()
    began = time.perf_counter()
    Sitting(tuned).finish([subject.job(steps=WARM_STEPS)])
    first = time.perf_counter() - began
    Sitting(tuned).finish([subject.job(steps=WARM_STEPS)])  # what is met twice is recorded
    if isinstance(tuned.way, Graphs) and not len(tuned.way):
        return {"recorded": 0}
    before = compilation.compiled()
    rounds = [(sitting(eager, job), sitting(tuned, job)) for _ in range(subject.rounds)]
    subject.gate(f"{name}: graphs compiled late", compilation.compiled() - before, 0)
    plainly, ours = rounds[-1]
    off = subject.compare(f"{name}: off eager", plainly.pixels(job), ours.pixels(job))
    together = list(company(replace(subject, model=tuned), subject.side, (1, 2)))
    return {
        "first_seconds": neat(first),
        "step_seconds": median(each.step_seconds for _, each in rounds),
        "decode_seconds": median(each.decode_seconds for _, each in rounds),
        "eager_step_seconds": median(each.step_seconds for each, _ in rounds),
        "eager_decode_seconds": median(each.decode_seconds for each, _ in rounds),
        "step_gain": median(a.step_seconds / b.step_seconds for a, b in rounds),
        "decode_gain": median(a.decode_seconds / b.decode_seconds for a, b in rounds),
        "company": together,
        **off,
    }


def sitting(model: Checkpoint, job: Any) -> Sitting:
    """One picture."""
    return Sitting(model).finish([job])


def median(values: Any) -> float:
    """Four digits of it."""
    return neat(statistics.median(values))
