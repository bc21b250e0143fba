"""What paints, on its own and served: seconds, memory, company, correctness: `limner bench engine`.

On a GPU, every family at its published size with random weights (their text encoders are stand-ins)
in bfloat16, and the shipped model; on a CPU the shipped model, and others where they are asked for.
`--small` scales networks and pictures down, so that the same code runs on any CPU within minutes
(what it prints then says nothing of speed). The report is written after every stage, so a run that
is killed keeps what it has; without a terminal each is told in a line. Exits 1 if a correctness
gate failed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import Progress

from bench import machine
from bench.architectures import ARCHITECTURES, Usual, built
from bench.lossy import lossy
from bench.publish import kept, publish
from bench.stages import stages
from bench.subject import Figures, Subject, neat
from bench.tunings import tunings
from models import device
from models.checkpoint import Checkpoint
from models.families import loader
from models.shell import denoiser_name

T = TypeVar("T")
SCRATCH = Path("out")
SHIPPED = "sketch"
SIDES = {SHIPPED: (128,)}  # px, of batches; of the others the usual ones
PRODUCTS = 20
COLUMNS: Mapping[str, str] = {
    "model": "model",
    "side": "px",
    "steps": "steps",
    "step_seconds": "s/step",
    "picture_seconds": "s/picture",
    "bare_seconds": "bare s",
    "studio_to_bare": "studio ÷ bare",
    "tflop_per_step": "TFLOP/step",
    "share_of_peak": "of peak",
    "text_seconds": "text s",
    "encode_seconds": "encode s",
    "decode_seconds": "decode s",
    "peak_gb": "peak GB",
    "cancel_seconds": "cancel s",
}


@dataclass(slots=True)
class Report:
    """Figures of what ran so far, and the file they are in."""

    path: Path
    head: Figures
    rows: list[Figures] = field(default_factory=list[Figures])

    def save(self) -> None:
        """Write all of it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.head | {"models": self.rows, "table": self.table()}
        text = json.dumps(whole, indent=2)
        self.path.write_text(text + "\n", encoding="utf-8")

    def table(self) -> str:
        """Markdown: a line for each model, then one for each company."""
        head = (list(COLUMNS.values()), ["---"] * len(COLUMNS))
        lines = [*head, *([shown(row.get(key)) for key in COLUMNS] for row in self.rows)]
        more = (table for table in ([*curves(self.rows)], [*services(self.rows)]) if table[2:])
        return "\n\n".join("\n".join(map(line, table)) for table in (lines, *more))

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


def curves(rows: Sequence[Figures]) -> Iterator[Sequence[str]]:
    """The second table: throughput by the number of canvases."""
    yield ["model", "px", "canvases", "s/step", "steps per s, × alone", "largest byte difference"]
    yield ["---"] * 6
    for row in rows:
        for key in (key for key in row if key.startswith("batch_")):
            for each in row[key]:
                told = (each.get(name) for name in ("step_seconds", "gain", "off_max_levels"))
                yield [row["model"], key[6:], str(each["canvases"]), *map(shown, told)]


def services(rows: Sequence[Figures]) -> Iterator[Sequence[str]]:
    """The third table: over HTTP against bare, by the number of pictures at once."""
    yield ["model", "pictures at once", "served s", "bare s", "served ÷ bare"]
    yield ["---"] * 5
    for row in rows:
        for each in row.get("served", ()):
            names = ("canvases", "served_seconds", "bare_seconds", "served_to_bare")
            yield [row["model"], *(shown(each[name]) for name in names)]


def line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def shown(value: object) -> str:
    """A cell; a dash for what was not measured."""
    return "–" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Session:
    """What holds for all models of one run."""

    target: torch.device
    small: bool
    rounds: int
    peak: float  # TFLOP/s
    wanted: Sequence[str]  # stages
    deadline: float  # of time.monotonic(); no stage begins later
    report: Report
    progress: Progress

    def measure(self, name: str) -> None:
        """One model, stage after stage; what is left when the time is over is named."""
        row: Figures = {"model": name, "gates": [], "skipped": [], "failed": {}}
        self.report.rows.append(row)
        there = everything(name, self.small)
        todo = {stage: there[stage] for stage in there if stage in self.wanted}
        task = self.progress.add_task(f"{name}: build", total=1 + len(todo))
        subject = self._try("build", row, lambda: self._built(name, row))
        if subject is not None:
            for stage, measured in todo.items():
                self.progress.update(task, advance=1, description=f"{name}: {stage}")
                self._try(stage, row, lambda do=measured: row.update(do(subject)))
        row |= share(row, self.peak)
        self.report.save()
        self.progress.update(task, completed=1 + len(todo), description=name)

    def _try(self, stage: str, row: Figures, work: Callable[[], T]) -> T | None:
        if time.monotonic() > self.deadline:
            row["skipped"].append(stage)
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
        subject = self._shipped(row) if name == SHIPPED else self._random(name, row)
        subject.keep = partial(self._keep, row)
        model = subject.model
        model.settle()
        denoiser = getattr(model.pipe, denoiser_name(model.pipe))
        row |= {
            "side": subject.side,
            "steps": subject.steps,
            "guidance": subject.usual.guidance,
            "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
            "dtype": str(model.pipe.vae.dtype).removeprefix("torch."),
            "build_seconds": neat(time.perf_counter() - began),
        }
        return subject

    def _random(self, name: str, row: Figures) -> Subject:
        shape = ARCHITECTURES[name]
        model = built(shape, self.target, device.dtype_for("auto", self.target), self.small)
        return Subject(name, shape, model, self.small, self.rounds, shape.family, row["gates"])

    def _shipped(self, row: Figures) -> Subject:
        from server.settings.config import load  # only here: a GPU may be where no server is
        from server.settings.stock import model_spec

        table = load().model[0]
        spec = model_spec(table)
        model = loader(spec.family)(spec, str(self.target))
        assert isinstance(model, Checkpoint)
        usual = Usual(side=spec.width, steps=table.steps, guidance=table.guidance)
        told = (SHIPPED, usual, model, self.small, self.rounds, spec.family, row["gates"])
        return Subject(*told, folder=Path(spec.path))


def everything(name: str, small: bool) -> dict[str, Callable[[Subject], Figures]]:
    """All stages of a model, in their order. What changes the model for good comes last."""
    return {
        **stages(small, SIDES.get(name, ())),
        "tunings": tunings,  # leaves it compiled
        "lossy": lossy,  # and this, where it can, in 8 bits
    }


def reached(target: torch.device) -> float:
    """TFLOP/s of large matrix products, the best of several: what a step is held to."""
    dtype = device.dtype_for("auto", target)
    side = 8192 if target.type == "cuda" else 1024
    a = torch.randn(side, side, device=target).to(dtype)
    b, best = torch.randn(side, side, device=target).to(dtype), float("inf")
    for _ in range(PRODUCTS):
        device.settle(target)
        began = time.perf_counter()
        torch.mm(a, b)
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
    known = [SHIPPED, *ARCHITECTURES]
    parser = argparse.ArgumentParser(prog="limner bench engine", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--small", action="store_true", help="scaled down, to try the script")
    parser.add_argument("--only", default="", help=f"some of {','.join(known)}")
    parser.add_argument("--stages", default="", help="some of them, as the report names them")
    parser.add_argument("--budget-seconds", type=float, default=480, help="no stage begins later")
    parser.add_argument("--peak-tflops", type=float, help="of the device; measured if not told")
    parser.add_argument("--rounds", type=int, default=3, help="of studio against bare")
    parser.add_argument("--out", type=Path, help="where the figures go (JSON)")
    parser.add_argument("--publish", action="store_true", help="keep them, and write the tables")
    given = parser.parse_args(arguments)
    if given.publish and (given.small or given.out):
        parser.error("--publish goes with neither --small nor --out")
    given.target = device.choose(given.device)
    # Full size takes hours without a GPU: there it has to be asked for.
    usual = [SHIPPED] if given.target.type == "cpu" and not given.small else known
    given.names = [name for name in given.only.split(",") if name] or usual
    there = list(everything(given.names[0], given.small))
    # Compiling takes minutes, and on a CPU it is known not to pay: there it has to be asked for.
    all_but = [stage for stage in there if given.target.type == "cuda" or stage != "tunings"]
    given.wanted = [stage for stage in given.stages.split(",") if stage] or all_but
    for said, all_ in ((given.names, known), (given.wanted, there)):
        if unknown := [name for name in said if name not in all_]:
            parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(all_)}")
    return given


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
    path = given.out or SCRATCH / kept("engine", str(facts["device"])).name
    peak = given.peak_tflops or reached(given.target)
    report = Report(path, {"machine": facts, "small": given.small, "peak_tflops": neat(peak)})
    deadline = began + given.budget_seconds
    with Progress(console=Console(stderr=True)) as progress:
        session = Session(
            *(given.target, given.small, given.rounds, peak),
            *(given.wanted, deadline, report, progress),
        )
        for each in given.names:
            session.measure(each)
            device.give_back()
    print(report.table())
    print(f"\n{time.monotonic() - began:.0f} s in all; the figures are in {path}")
    for row in report.rows:
        if row["skipped"]:
            print(f"{row['model']}: no time was left for {', '.join(row['skipped'])}")
    if failures := report.failures():
        raise SystemExit("\n".join(["failed:", *failures]))
    if given.publish:
        publish(path)


if __name__ == "__main__":
    main()
