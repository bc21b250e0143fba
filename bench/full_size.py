"""Every family at its published size with random weights: seconds, memory, company, correctness.

`python -m bench.full_size` on a GPU, in bfloat16; `--small` scales the networks and pictures down,
so that the same code runs on any CPU within a minute (what it prints then says nothing of speed).
The report is written after every stage, so a run that is killed keeps what it has. Exits 1 if a
correctness gate failed. Text encoders are stand-ins: text encoding is not measured.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import Progress

from bench import machine
from bench.architectures import ARCHITECTURES, built
from bench.stages import Figures, Subject, neat, stages
from models import device
from models.shell import denoiser_name

T = TypeVar("T")
RESULTS = Path("bench/results")
SCRATCH = Path("out")
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
        text = json.dumps(self.head | {"models": self.rows}, indent=2)
        self.path.write_text(text + "\n", encoding="utf-8")

    def table(self) -> str:
        """Markdown: a line for each model, then one for each company."""
        head = (list(COLUMNS.values()), ["---"] * len(COLUMNS))
        lines = [*head, *([shown(row.get(key)) for key in COLUMNS] for row in self.rows)]
        return "\n".join(map(line, lines)) + "\n\n" + "\n".join(map(line, curves(self.rows)))

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
    peak: float | None  # TFLOP/s
    deadline: float  # of time.monotonic(); no stage begins later
    report: Report
    progress: Progress

    def measure(self, name: str) -> None:
        """One model, stage after stage; what is left when the time is over is named."""
        row: Figures = {"model": name, "gates": [], "skipped": [], "failed": {}}
        self.report.rows.append(row)
        todo = stages(self.small)
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
        try:
            return work()
        except Exception as error:  # time on a GPU is dear: the other stages are to go on
            row["failed"][stage] = f"{type(error).__name__}: {error}"
            return None
        finally:
            self.report.save()

    def _built(self, name: str, row: Figures) -> Subject:
        """The model to be measured, and what is known of it at once."""
        began, shape = time.perf_counter(), ARCHITECTURES[name]
        dtype = device.dtype_for("auto", self.target)
        model = built(shape, self.target, dtype, self.small)
        model.settle()
        subject = Subject(name, shape, model, self.small, self.rounds, row["gates"])
        denoiser = getattr(model.pipe, denoiser_name(model.pipe))
        row |= {
            "side": subject.side,
            "steps": subject.steps,
            "guidance": shape.guidance,
            "parameters": sum(parameter.numel() for parameter in denoiser.parameters()),
            "dtype": str(dtype).removeprefix("torch."),
            "build_seconds": neat(time.perf_counter() - began),
        }
        return subject


def share(row: Figures, peak: float | None) -> Figures:
    """How much of the device's best a step makes use of, if both are known."""
    if peak is None or not {"tflop_per_step", "step_seconds"} <= row.keys():
        return {}
    return {"share_of_peak": neat(row["tflop_per_step"] / row["step_seconds"] / peak)}


def options() -> argparse.Namespace:
    """What was asked for.

    Raises:
        SystemExit: full size without a GPU, or a model that there is not.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--small", action="store_true", help="scaled down, to try the script")
    parser.add_argument("--only", default="", help=f"some of {','.join(ARCHITECTURES)}")
    parser.add_argument("--budget-seconds", type=float, default=480, help="no stage begins later")
    parser.add_argument("--peak-tflops", type=float, help="what the device is known to reach")
    parser.add_argument("--rounds", type=int, default=3, help="of studio against bare")
    parser.add_argument("--out", type=Path, help="where the figures go (JSON)")
    given = parser.parse_args()
    given.target = device.choose(given.device)
    given.names = [name for name in given.only.split(",") if name] or list(ARCHITECTURES)
    if unknown := [name for name in given.names if name not in ARCHITECTURES]:
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(ARCHITECTURES)}")
    if given.target.type == "cpu" and not given.small:
        parser.error("full size takes hours without a GPU; --small tries the script")
    return given


def machine_facts(target: torch.device) -> Figures:
    """The machine and what it calculates with."""
    return machine.facts() | {
        "device": device.name(target),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main() -> None:
    """Measure, write and print; see the module's description."""
    began, given = time.monotonic(), options()
    if given.target.type == "cpu":
        torch.set_num_threads(1)
    facts = machine_facts(given.target)
    name = re.sub(r"[^a-z0-9]+", "-", str(facts["device"]).lower())
    path = given.out or (SCRATCH / "small.json" if given.small else RESULTS / f"{name}.json")
    told = {"small": given.small, "peak_tflops": given.peak_tflops, "weights": "random"}
    report = Report(path, {"machine": facts} | told | {"texts": "stand-ins"})
    deadline = began + given.budget_seconds
    with Progress(console=Console(stderr=True)) as progress:
        session = Session(
            *(given.target, given.small, given.rounds, given.peak_tflops),
            *(deadline, report, progress),
        )
        for each in given.names:
            session.measure(each)
            device.give_back()
    print(report.table())
    print(f"\n{time.monotonic() - began:.0f} s in all; the figures are in {path}")
    if failures := report.failures():
        raise SystemExit("\n".join(["failed:", *failures]))


if __name__ == "__main__":
    main()
