"""The families and the worker on a real CUDA device, with tiny checkpoints.

`pytest -m gpu tests/gpu` where there is one. `LIMNER_TEST_DEVICE=cpu` tries the tests themselves
without one, but for those that need what it alone has.
"""

import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
from models import launch, wire
from models.attention import CUDNN_FIRST, HOPPER, order_for
from models.canvas import NotFinite
from models.contract import (
    AnyCommand,
    AnyEvent,
    Cancelled,
    Finished,
    Loaded,
    Paint,
    Stop,
    Tuning,
    WorkerSpec,
)
from models.graphs import Graphs
from models.pixels import Arrival
from models.warmup import warm_up
from tests.gpu.painting import DEVICE, FAMILY_OF, ON_THE_GPU, faulty, job, load, pixels, run

pytestmark = ON_THE_GPU


@pytest.mark.parametrize("name", list(FAMILY_OF))
def test_every_family_paints_every_task_in_bfloat16(spec_of, name: str) -> None:
    """Merged and beside a cancelled one it is near the same alone; strict, it is the same."""
    model = load(spec_of(name, dtype="bfloat16"))
    for task in model.tasks:
        alone = pixels(run(model, job("owl", task)), "owl")
        jobs = [job("owl", task), job("fox", task, steps=6, seeds=(8,)), job("cat", task, steps=9)]
        events = run(model, *jobs, cancel="cat")
        assert Cancelled("cat", 0) in events
        assert np.abs(pixels(events, "owl") - alone).mean() < 4
        strict = [pixels(run(model, job("owl", task, strict=True)), "owl") for _ in range(2)]
        assert (strict[0] == strict[1]).all()


@pytest.mark.parametrize("name", ["sd", "flux", "z_image"])
def test_float32_in_company_is_within_one_level(spec_of, name: str) -> None:
    model = load(spec_of(name, dtype="float32"))
    alone = pixels(run(model, job("owl", "generate")), "owl")
    events = run(model, job("owl", "generate"), job("fox", "generate", steps=6, seeds=(8,)))
    assert np.abs(pixels(events, "owl") - alone).max() <= 1


@faulty
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "flux2", "qwen_image"])
def test_replayed_forwards_paint_the_same(spec_of, name: str, dtype: str) -> None:
    plain = load(spec_of(name, dtype=dtype))
    quick = load(spec_of(name, dtype=dtype, tuning=Tuning(graphs=True)))
    assert isinstance(quick.way, Graphs)
    for count in (1, 3):  # three canvases fill up to four rows or eight
        jobs = [job(f"{count}{n}", "generate", steps=4 + n, seeds=(n,)) for n in range(count)]
        for _ in range(2):  # recorded, and only replayed
            events = run(quick, *jobs)
            for asked in jobs:
                alone = pixels(run(plain, asked), asked.id)
                off = np.abs(pixels(events, asked.id) - alone)
                assert off.max() <= 1 if dtype == "float32" else off.mean() < 4
    assert (recorded := len(quick.way)) > 1
    quick.way._kept.clear()  # as a shortage does
    run(quick, job("again", "generate", steps=4, seeds=(0,)))
    assert 0 < len(quick.way) < recorded
    strict = job("strict", "generate", strict=True)
    assert (pixels(run(quick, strict), "strict") == pixels(run(quick, strict), "strict")).all()


@faulty
def test_cudnn_attends_first_on_hopper() -> None:
    if torch.cuda.get_device_capability() != HOPPER:
        pytest.skip("Hopper's own order")
    assert order_for(torch.device("cuda", 0)) == CUDNN_FIRST


def test_a_picture_arrives_as_it_is() -> None:
    picture = torch.rand(3, 33, 65, generator=torch.Generator().manual_seed(0))
    arrival = Arrival(picture.to(DEVICE))
    assert arrival.image() == Arrival(picture).image()
    assert arrival.ready()
    with pytest.raises(NotFinite):
        Arrival((picture / 0).to(DEVICE)).image()


@pytest.mark.parametrize("how", ["text", "all"])
@pytest.mark.parametrize("name", ["sd", "flux", "qwen_image"])
def test_what_travels_paints_the_same(spec_of, name: str, how: str) -> None:
    plain, travelling = load(spec_of(name)), load(spec_of(name, offload=how))
    if DEVICE == "cuda":
        assert travelling.size < plain.size
    asked = job("owl", "generate")
    assert (pixels(run(travelling, asked), "owl") == pixels(run(plain, asked), "owl")).all()


def test_a_vae_that_overflows_in_half_precision_stays_in_full(spec_of) -> None:
    model = load(spec_of("sdxl", dtype="float16"))
    assert model.pipe.vae.dtype == torch.float32
    for task in model.tasks:
        assert pixels(run(model, job("owl", task)), "owl").std() > 0


@pytest.mark.parametrize("name", list(FAMILY_OF))
def test_the_warm_up_tells_caps(spec_of, name: str) -> None:
    spec = spec_of(name)
    assert {cap.kind for cap in warm_up(load(spec), spec)} == {"forward", "decode"}


class Talk:
    """Our end of a worker's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._unframer = wire.events()
        self._events: list[AnyEvent] = []

    def say(self, command: AnyCommand) -> None:
        self.connection.sendall(wire.frame(command))

    def until(self, kind: type) -> AnyEvent:
        while True:
            while self._events:
                if isinstance(event := self._events.pop(0), kind):
                    return event
            data = self.connection.recv(1 << 20)
            assert data, "the worker is gone"
            self._events += self._unframer.feed(data)


def test_a_forked_worker_paints_and_its_forkserver_never_touched_the_device(spec_of) -> None:
    launch.prepare({"sd"}, threads=1)
    spec = WorkerSpec(name="gpu", device=DEVICE, models=(spec_of("sd"),))
    process, connection = launch.start(spec)
    with connection:
        connection.settimeout(120)
        talk = Talk(connection)
        loaded = talk.until(Loaded)
        assert isinstance(loaded, Loaded)
        assert loaded.size > 0
        talk.say(Paint(job("owl", "generate"), 0))
        assert isinstance(talk.until(Finished), Finished)
        assert process.pid is not None
        assert not uses_cuda(psutil.Process(process.pid).ppid())  # the forkserver
        assert uses_cuda(process.pid) == (DEVICE == "cuda")
        talk.say(Stop())
        process.join(30)
        assert process.exitcode == 0


def uses_cuda(pid: int) -> bool:
    """Whether a process has set CUDA up; the other files of the GPU are open to ask about it."""
    links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return Path("/dev/nvidia-uvm") in {link.readlink() for link in links}
