"""What compiling and recording gain for one checkpoint, in turns with it as it comes, and whether
the pictures stay the same: stages of `bench.engine`.
"""

from dataclasses import replace
from typing import Any

import torch

from bench.kernels import median, of_steps
from bench.sitting import Sitting
from bench.stages import company
from bench.subject import WARM_STEPS, Figures, Subject, forgetful
from bench.tables import neat
from models import compilation
from models.attention import fastest_first
from models.checkpoint import Checkpoint
from models.contract import Job
from models.graphs import Graphs
from models.merge import Forward, Way, plainly
from models.shell import denoiser_name

BACKEND = "inductor"
TOGETHER = (1, 2)  # canvases of a tuned picture's company
SMALL_PICTURE = 512  # px; up to it more may pay
SMALL_TOGETHER = (1, 2, 8)


def graphs(subject: Subject) -> Figures:
    """Recording what is not compiled: it takes no minutes."""
    if (kind := subject.model.device.type) != "cuda":
        return {"tunings": {"graphs": {"refused": f"{kind} has none"}}}
    return measured(subject, {"graphs": Graphs(subject.model.way)}, subject.model)


def tunings(subject: Subject) -> Figures:
    """Compiling, and recording what is compiled. The model stays compiled."""
    model = subject.model
    scaled_down = subject.small and model.device.type == "cpu"
    parts = compilation.in_regions(
        *(getattr(model.pipe, denoiser_name(model.pipe)), model.pipe.vae.decoder),
        backend="eager" if scaled_down else BACKEND,  # which compiles nothing, in minutes less
    )
    way = fastest_first(model.device, compilation.bare_only(plainly))
    ways: dict[str, Way] = {"compile": way}
    if model.device.type == "cuda":
        ways["compile+graphs"] = Graphs(way)
    subject.model = replace(model, way=way)  # what comes after is measured with it
    told = measured(subject, ways, replace(model, way=plain(model.way)))
    return {"compiled_parts": parts} | told


def measured(subject: Subject, ways: dict[str, Way], eager: Checkpoint) -> Figures:
    """Figures of each way under its name, as far as time goes; each is kept at once."""
    for name, way in ways.items():
        if not subject.in_time():
            subject.ways[name] = {"skipped": "no time was left"}
            continue
        subject.ways[name] = against(subject, name, eager, replace(subject.model, way=way))
        subject.keep({"tunings": dict(subject.ways)})
    return {"tunings": dict(subject.ways)}


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
    first = beginning(subject, tuned)
    Sitting(tuned).finish([subject.job(steps=WARM_STEPS)])  # what is met twice is recorded
    if isinstance(tuned.way, Graphs) and not len(tuned.way):
        return {"recorded": 0}
    before = compilation.compiled()
    told = {"first_seconds": neat(first)} | in_turns(subject, name, eager, tuned)
    subject.gate(f"{name}: graphs compiled late", compilation.compiled() - before, 0)
    sizes = SMALL_TOGETHER if subject.side <= SMALL_PICTURE and not subject.small else TOGETHER
    return told | {"company": [*company(replace(subject, model=tuned), subject.side, sizes)]}


def in_turns(subject: Subject, name: str, eager: Checkpoint, tuned: Checkpoint) -> Figures:
    """Both, step by step and as whole pictures; and how far the latter are apart."""
    few, job = subject.job(steps=subject.few_steps), subject.job()
    steps = [
        (Sitting(eager).finish([few]), Sitting(tuned).finish([few])) for _ in range(subject.rounds)
    ]
    wholes = [(whole(eager, job), whole(tuned, job)) for _ in range(subject.rounds)]
    usual, ours = wholes[-1]
    return {
        "picture_seconds": median(each.seconds for _, each in wholes),
        "eager_picture_seconds": median(each.seconds for each, _ in wholes),
        "picture_gain": median(a.seconds / b.seconds for a, b in wholes),
        **of_steps(steps),
        **subject.compare(f"{name}: off eager", usual.pixels(job), ours.pixels(job)),
    }


def beginning(subject: Subject, model: Checkpoint) -> float:
    """Seconds of the first picture, which has all compiled that it meets."""
    return Sitting(model).finish([subject.job(steps=WARM_STEPS)]).seconds


def again(subject: Subject) -> Figures:
    """The first picture of a model that was compiled before, by what is kept on the disk."""
    if "first_seconds" not in subject.ways.get("compile", {}):
        return {"compiled_again": "not compiled before"}
    torch._dynamo.reset()
    return {"compiled_again_seconds": neat(beginning(subject, subject.model))}


def whole(model: Checkpoint, job: Job) -> Sitting:
    """One picture as it is painted for a client: nothing is waited for in between."""
    return Sitting(forgetful(model), settled=False).finish([job])
