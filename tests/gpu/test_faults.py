"""What a CUDA device refuses: more memory than it has, and kernels that end the process.

As `test_on_the_gpu`; on a CPU, what stands for those faults tries the tests themselves.
"""

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch

from bench.sitting import Memory
from models import launch
from models.contract import AnyEvent, Failed, Finished, ModelSpec, Paint, WorkerSpec
from models.merge import Forward, Way
from server.jobs.engine import Engine, LocalEngine
from tests.gpu.painting import DEVICE, ON_THE_GPU, faulty, job, load, pixels, room, run
from tests.models import tiny
from tests.server.waiting import until

pytestmark = ON_THE_GPU
GPU = DEVICE == "cuda"
SIDE = 768  # px; four such pictures take far more than the allocator rounds up to
SPARE = 64 << 20  # bytes; more than a tiny picture takes beside its weights


@faulty
def test_running_out_of_memory_is_told_and_leaves_the_device_usable(spec_of) -> None:
    model = load(spec_of("sd"))
    wish = job("huge", "generate", width=2048, height=2048)
    with room(16 << 20):  # less than the picture alone takes, so decoding in tiles is no way out
        (end,) = [event for event in run(model, wish) if isinstance(event, Failed)]
    assert end.fault.kind == "out_of_memory"
    assert pixels(run(model, job("owl", "generate")), "owl").std() > 0


def test_a_group_that_does_not_fit_is_halved_and_all_of_it_is_painted(spec_of) -> None:
    model = load(spec_of("sd", dtype="float32"))
    group = [
        job(str(n), "generate", width=SIDE, height=SIDE, steps=2, seeds=(n,)) for n in range(4)
    ]
    alone = {each.id: pixels(run(model, each), each.id) for each in group}
    memory, little = Memory(model), Little(model.way)
    run(model, *group)
    needed = int((memory.peak_gb() or 0) * 1e9) - model.size
    memory = Memory(model)
    with room(needed * 3 // 4) if GPU else nullcontext():
        events = run(model if GPU else replace(model, way=little), *group)
    assert memory.shortages() + little.refused > 0
    for each in group:
        assert np.abs(pixels(events, each.id) - alone[each.id]).max() <= 1
    later = job("later", "generate", width=SIDE, height=SIDE, steps=2, seeds=(0,))
    assert (pixels(run(model, later), "later") == alone["0"]).all()


class Little:
    """The way of a device that has room for two pictures with guidance: where none runs out."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.refused = 0

    def __call__(self, forward: Forward) -> object:
        if forward.rule and len(forward.arguments[forward.rule.rows]) > 4:
            self.refused += 1
            raise torch.OutOfMemoryError("as if")
        return self._way(forward)


def test_what_is_held_at_the_most_is_told_of_one_model(spec_of) -> None:
    model, asked = load(spec_of("sd")), job("owl", "generate")
    run(model, asked)  # the first takes what the libraries keep
    memory = Memory(model)
    run(model, asked)
    peak = int((memory.peak_gb() or 0) * 1e9)
    assert model.size < peak
    if GPU:
        assert peak < model.size + SPARE
        beside = load(spec_of("sdxl"))
        memory = Memory(model)
        run(model, asked)
        assert abs((memory.peak_gb() or 0) * 1e9 - peak) < beside.size


class Ear:
    """Keeps what it hears of a worker."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.losses = 0

    def heard(self, engine: Engine, event: AnyEvent) -> None:
        self.events.append(event)

    def lost(self, engine: Engine) -> None:
        self.losses += 1

    def ended(self, name: str) -> AnyEvent | None:
        """The job's end."""
        ends = [e for e in self.events if isinstance(e, Finished | Failed) and e.job == name]
        return ends[0] if ends else None


def test_a_worker_whose_device_is_lost_is_replaced(tmp_path: Path) -> None:
    """By a word beyond the text encoder's table: an assertion in a kernel, an error on a CPU."""
    tiny.sd().save_pretrained(tmp_path)
    told = json.loads((path := tmp_path / "tokenizer" / "tokenizer.json").read_text())
    told["model"]["vocab"]["~</w>"] = 9999
    path.write_text(json.dumps(told))
    model = ModelSpec(id="tiny", family="sd", path=str(tmp_path), width=128, height=64)
    spec = WorkerSpec(name="gpu", device=DEVICE, models=(model,))
    launch.prepare({"sd"}, threads=1)
    ear = asyncio.run(story(LocalEngine(spec, 100)))
    assert ear.losses == 1 + GPU  # its end is told as well
    assert isinstance(ear.ended("bad"), Failed) != GPU
    assert isinstance(ear.ended("later"), Finished)


async def story(engine: LocalEngine) -> Ear:
    """A job that loses the device, and one that comes later."""
    ear = Ear()
    running = asyncio.create_task(engine.run(ear))
    try:
        await until(lambda: engine.state == "ready", 100)
        assert engine._process is not None
        worker = psutil.Process(engine._process.pid)
        engine.send(Paint(job("bad", "generate", prompt="~"), 0))
        await until(lambda: engine.restarts if GPU else ear.ended("bad"), 60)
        assert worker.is_running() != GPU
        await until(lambda: engine.state == "ready", 100)
        engine.send(Paint(job("later", "generate"), 0))
        await until(lambda: ear.ended("later"), 60)
    finally:
        await engine.stop()
        await asyncio.wait_for(running, 30)
    return ear
