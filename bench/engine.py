"""What paints, on its own and served: seconds, memory, company, correctness: `limner bench engine`.

On a GPU, every family at its published size with random weights (their text encoders are stand-ins)
in bfloat16, and the shipped models; on a CPU the shipped ones, and others where they are asked for.
`--plan` is what fits into one call on a GPU that is lent for minutes (`bench/plans.py`).
`--small` scales networks and pictures down, so that the same code runs on any CPU within minutes
(what it prints then says nothing of speed). The report is written after every stage, so a run that
is killed keeps what it has; without a terminal each is told in a line. Exits 1 if a correctness
gate failed.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import Progress

from bench import machine, plans, tables, targets
from bench.architectures import ARCHITECTURES, Usual, built
from bench.lossy import lossy
from bench.publish import kept, publish
from bench.stages import stages
from bench.subject import Figures, Subject
from bench.tables import neat
from bench.tunings import again, graphs, tunings
from models import device
from models.checkpoint import Checkpoint
from models.families import loader
from models.linears import by_onednn
from models.merge import Forward, plainly
from models.shell import denoiser_name

T = TypeVar("T")
SCRATCH = Path("out")
SHIPPED = ("sketch", "sketch-flux")
SIDES: Mapping[str, Sequence[int]] = dict.fromkeys(SHIPPED, (128,))  # px, of batches, if not usual
PRODUCTS = 20


@dataclass(slots=True)
class Report:
    """Figures of what ran so far, and the file they are in."""

    path: Path
    head: Figures
    rows: list[Figures] = field(default_factory=list[Figures])

    def save(self) -> None:
        """Write all of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = {"targets": self.targets(), "failures": self.failures(), "table": self.table()}
        text = json.dumps(self.head | {"models": self.rows} | found, indent=2)
        self.path.write_text(text + "\n", encoding="utf-8")

    def table(self) -> str:
        """All figures, in Markdown."""
        return tables.engine(self.rows)

    def targets(self) -> list[Figures]:
        """Whole pictures against floors and targets."""
        device = "" if self.head["small"] else str(self.head["machine"]["device"])
        return targets.lines(self.rows, device, self.head["floor_tflops"])

    def failures(self) -> list[str]:
        """Gates that were not passed, and stages that came to nothing."""
        return [
            *(
                f"{row['model']}: {gate['what']} is {gate['value']}, and may be {gate['limit']}"
                for row in self.rows
                for gate in row["gates"]
                if not gate["ok"]
            ),
            *(
                f"{row['model']}: {stage}: {why}"
                for row in self.rows
                for stage, why in row["failed"].items()
            ),
        ]


@dataclass(frozen=True, slots=True)
class Session:
    """What holds for all models of one run."""

    target: torch.device
    small: bool
    rounds: int
    peak: float  # TFLOP/s
    deadline: float  # of time.monotonic(); no stage begins later
    report: Report
    progress: Progress

    def measure(self, turns: Sequence[tuple[str, str]]) -> None:
        """Models and stages, one after the other; what is left when the time is over is named.

        A model is made at its first turn, and is gone after its last.
        """
        left = Counter(name for name, _ in turns)
        rows: dict[str, Figures] = {}
        subjects: dict[str, Subject | None] = {}
        task = self.progress.add_task("", total=len(turns))
        for name, stage in turns:
            if name not in rows:
                rows[name] = self._row(name)
                subjects[name] = self._begun(name, rows[name])
            self.progress.update(task, description=f"{name}: {stage}")
            if subject := subjects[name]:
                self._do(stage, subject, rows[name])
            self.progress.advance(task)
            left[name] -= 1
            if not left[name]:
                subject = subjects[name] = None
                device.give_back()

    def _row(self, name: str) -> Figures:
        row: Figures = {"model": name, "gates": [], "skipped": [], "failed": {}}
        self.report.rows.append(row)
        return row

    def _begun(self, name: str, row: Figures) -> Subject | None:
        return self._try("build", row, lambda: self._built(name, row))

    def _do(self, stage: str, subject: Subject, row: Figures) -> None:
        def measure() -> None:  # where there is no server, no stage needs one
            row.update(everything(subject.name, self.small)[stage](subject))

        self._try(stage, row, measure)
        row |= share(row, self.peak)
        self.report.save()

    def _try(self, stage: str, row: Figures, work: Callable[[], T]) -> T | None:
        if time.monotonic() > self.deadline:
            row["skipped"].append(stage)
            self.report.save()
            return None
        began = time.perf_counter()
        try:
            return work()
        except Exception as error:  # time on a GPU is dear: the other stages are to go on
            row["failed"][stage] = f"{type(error).__name__}: {error}"
            return None
        finally:
            self.report.save()
            if not self.progress.console.is_terminal:  # where there is no bar to be looked at
                outcome = ", failed" if stage in row["failed"] else ""
                words = f"{row['model']}: {stage}: {time.perf_counter() - began:.1f} s{outcome}"
                print(words, file=sys.stderr, flush=True)

    def _keep(self, row: Figures, figures: Figures) -> None:
        row.update(figures)
        self.report.save()

    def _built(self, name: str, row: Figures) -> Subject:
        """The model to be measured, and what is known of it at once."""
        began = time.perf_counter()
        subject = self._shipped(name, row) if name in SHIPPED else self._random(name, row)
        subject.keep = partial(self._keep, row)
        subject.deadline = self.deadline
        model = subject.model
        model.settle()
        denoiser = getattr(model.pipe, denoiser_name(model.pipe))
        row |= {
            "side": subject.side,
            "steps": subject.steps,
            "guidance": subject.usual.guidance,
            "made_up": subject.folder is None,  # its weights, and what reads its texts
            "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
            "dtype": str(model.pipe.vae.dtype).removeprefix("torch."),
            "build_seconds": neat(time.perf_counter() - began),
        }
        return subject

    def _random(self, name: str, row: Figures) -> Subject:
        shape = ARCHITECTURES[name]
        model = built(shape, self.target, device.dtype_for("auto", self.target), self.small)
        return Subject(name, shape, model, self.small, self.rounds, shape.family, row["gates"])

    def _shipped(self, name: str, row: Figures) -> Subject:
        from server.settings.config import load  # only here: a GPU may be where no server is
        from server.settings.stock import model_spec

        table = next(table for table in load().model if table.id == name)
        spec = model_spec(table)
        model = loader(spec.family)(spec, str(self.target))
        assert isinstance(model, Checkpoint)
        usual = Usual(side=spec.width, steps=table.steps, guidance=table.guidance)
        told = (name, usual, model, self.small, self.rounds, spec.family, row["gates"])
        return Subject(*told, folder=Path(spec.path))


def everything(name: str, small: bool) -> dict[str, Callable[[Subject], Figures]]:
    """All stages of a model, in their order. What changes the model for good comes last."""
    return {
        **stages(small, SIDES.get(name, ())),
        "graphs": graphs,
        "tunings": tunings,  # leaves it compiled
        "compiled again": again,
        "lossy": lossy,  # leaves it, where it can, in 8 bits
    }


def reached(target: torch.device) -> float:
    """TFLOP/s of large matrix products, the best of several by the faster of torch's libraries:
    what a step is held to."""
    side = 8192 if target.type == "cuda" else 1024
    place = {"device": target, "dtype": device.dtype_for("auto", target)}
    layer = torch.nn.Linear(side, side, bias=False, **place)
    product, best = Forward(layer, {"input": torch.randn(side, side).to(**place)}), float("inf")
    for way in [plainly, by_onednn(layer, plainly)] * PRODUCTS:
        device.settle(target)
        began = time.perf_counter()
        with torch.no_grad():
            way(product)
        device.settle(target)
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best / 1e12


def share(row: Figures, peak: float) -> Figures:
    """How much of the device's best a step makes use of."""
    if not {"tflop_per_step", "step_seconds"} <= row.keys():
        return {}
    return {"share_of_peak": neat(row["tflop_per_step"] / row["step_seconds"] / peak)}


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for.

    Raises:
        SystemExit: a model or a stage that there is not.
    """
    known = ",".join([*SHIPPED, *ARCHITECTURES])
    parser = argparse.ArgumentParser(prog="limner bench engine", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--small", action="store_true", help="scaled down, to try the script")
    parser.add_argument("--only", default="", help=f"some of {known}")
    parser.add_argument("--stages", default="", help="some of them, as the report names them")
    parser.add_argument("--plan", type=int, choices=plans.PLANS, help="models, stages and time")
    parser.add_argument("--budget-seconds", type=float, help="no stage begins later (480)")
    parser.add_argument("--peak-tflops", type=float, help="of the device; measured if not told")
    parser.add_argument("--rounds", type=int, help="of studio against bare (3)")
    parser.add_argument("--out", type=Path, help="where the figures go (JSON), or a folder")
    parser.add_argument("--publish", action="store_true", help="keep them, and write the tables")
    given = parser.parse_args(arguments)
    if given.publish and (given.small or given.out):
        parser.error("--publish goes with neither --small nor --out")
    if given.plan and (given.only or given.stages):
        parser.error("--plan goes with neither --only nor --stages")
    given.target = device.choose(given.device)
    if given.plan and given.target.type == "cpu" and not given.small:
        parser.error("--plan is for a GPU; --small tries it on a CPU")
    plan = plans.PLANS.get(given.plan)
    given.rounds = given.rounds or (plan.rounds if plan else 3)
    if given.budget_seconds is None:
        given.budget_seconds = plan.seconds if plan else 480.0
    given.turns = plans.turns(plan, given.small) if plan else asked(given, parser)
    return given


def asked(given: argparse.Namespace, parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """Models and stages that were asked for, or the usual ones: all of a model before the next."""
    known = [*SHIPPED, *ARCHITECTURES]
    # Full size takes hours without a GPU: there it has to be asked for.
    usual = list(SHIPPED) if given.target.type == "cpu" and not given.small else known
    names = [name for name in given.only.split(",") if name] or usual
    there = list(dict.fromkeys(stage for name in names for stage in everything(name, given.small)))
    # Compiling takes minutes, and on a CPU it is known not to pay: there it has to be asked for.
    left_out = () if given.target.type == "cuda" else ("graphs", "tunings", "compiled again")
    wanted = [stage for stage in given.stages.split(",") if stage]
    for said, all_ in ((names, known), (wanted, there)):
        if unknown := [name for name in said if name not in all_]:
            parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(all_)}")
    for name in names:
        if wanted and not set(wanted) & set(everything(name, given.small)):
            parser.error(f"{name} has none of {', '.join(wanted)}")
    return [
        (name, stage)
        for name in names
        for stage in everything(name, given.small)
        if (stage in wanted if wanted else stage not in left_out)
    ]


def machine_facts(target: torch.device) -> Figures:
    """The machine and what it calculates with."""
    return machine.facts() | {
        "device": device.name(target),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write and print; see the module's description."""
    began, given = time.monotonic(), options(arguments)
    if given.target.type == "cpu":
        torch.set_num_threads(1)
    facts = machine_facts(given.target)
    name = str(facts["device"])
    peak = given.peak_tflops or reached(given.target)
    report = Report(
        placed(given.out, kept("engine", name, given.plan).name),
        {"machine": facts, "small": given.small, "plan": given.plan, "peak_tflops": neat(peak)}
        | {"floor_tflops": neat(targets.CEILINGS.get(name, peak))},
    )
    with Progress(console=Console(stderr=True)) as progress:
        deadline = began + given.budget_seconds
        session = (given.target, given.small, given.rounds, peak, deadline, report, progress)
        Session(*session).measure(given.turns)
    print(f"{report.table()}\n\n{targets.table(report.targets())}")
    print(f"\n{time.monotonic() - began:.0f} s in all; the figures are in {report.path}")
    for row in report.rows:
        if row["skipped"]:
            print(f"{row['model']}: no time was left for {', '.join(row['skipped'])}")
    if given.publish:
        publish(report.path)  # also where a gate failed: the tables say so
    if failures := report.failures():
        raise SystemExit("\n".join(["failed:", *failures]))


def placed(out: Path | None, name: str) -> Path:
    """Where figures go that are usually called so."""
    if out is None:
        return SCRATCH / name
    return out / name if out.is_dir() else out


if __name__ == "__main__":
    main()
