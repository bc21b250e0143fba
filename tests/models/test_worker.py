"""A real worker process on a real socket: what it answers, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import msgspec
import psutil
import pytest

from models import launch, manifest, wire
from models.contract import (
    AnyCommand,
    AnyEvent,
    Attach,
    Cancel,
    Cancelled,
    Cutout,
    Evicted,
    Failed,
    Finished,
    Image,
    Job,
    Loaded,
    LoadFailed,
    Loading,
    ModelSpec,
    Paint,
    Ready,
    Release,
    Room,
    Step,
    Stop,
    WorkerSpec,
)

TOY = ModelSpec(id="toy", family="toy", width=8, height=8)
BROKEN = ModelSpec(id="broken", family="toy", path="broken", width=8, height=8)


def job(prompt: str = "owl", **changes: object) -> Job:
    defaults: dict[str, object] = {"id": "j", "model": "toy", "task": "generate", "width": 8}
    defaults |= {"height": 8, "steps": 3, "guidance": 1.0, "seeds": (1, 2), "prompt": prompt}
    return Job(**(defaults | changes))


class Talk:
    """Our end of a worker's connection."""

    def __init__(self, process: ForkServerProcess, connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self._unframer = wire.events()
        self._events: list[AnyEvent] = []
        connection.settimeout(30)

    def say(self, *commands: AnyCommand) -> None:
        for command in commands:
            self.connection.sendall(wire.frame(command))

    def hear(self) -> AnyEvent | None:
        """The next event; None at the end of the connection."""
        while not self._events:
            if not (data := self.connection.recv(1 << 20)):
                return None
            self._events += self._unframer.feed(data)
        return self._events.pop(0)

    def until(self, *kinds: type) -> AnyEvent:
        """The next event of one of these kinds; the connection must not end before."""
        while not isinstance(event := self.hear(), kinds):
            assert event is not None, "the worker is gone"
        return event

    def exit_code(self) -> int | None:
        self.process.join(10)
        return self.process.exitcode


@pytest.fixture(scope="module", autouse=True)
def preload() -> None:
    launch.prepare({"toy"}, threads=1)


@contextmanager
def worker(*models: ModelSpec, memory: int = 0) -> Iterator[Talk]:
    spec = WorkerSpec(name="test", device="cpu", memory=memory, models=models or (TOY,))
    process, connection = launch.start(spec)
    talk = Talk(process, connection)
    try:
        yield talk
    finally:
        connection.close()
        process.kill()
        process.join(10)


def test_it_says_what_it_is_and_can() -> None:
    with worker() as talk:
        assert talk.hear() == Ready("cpu")
        assert talk.hear() == Loading("toy")
        loaded = talk.hear()
        assert isinstance(loaded, Loaded)
        assert (loaded.model, loaded.tasks) == ("toy", ("generate", "edit", "inpaint"))
        room = talk.hear()
        assert isinstance(room, Room)
        assert room.canvases >= 4


def test_it_paints_and_the_same_seed_is_the_same_picture() -> None:
    with worker() as talk:
        talk.say(Paint(job(), 0), Paint(job(), 1))
        first, second = talk.until(Finished), talk.until(Finished)
        talk.say(Paint(job(), 0))
        again = talk.until(Finished)
        assert isinstance(first, Finished)
        assert isinstance(second, Finished)
        assert isinstance(again, Finished)
        assert first.image == again.image
        assert first.image != second.image


def test_a_model_whose_weights_were_changed_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    file = tmp_path / "weights" / "unet.safetensors"
    file.parent.mkdir()
    file.write_bytes(bytes(9000))
    place = manifest.place(tmp_path, file.parent)
    manifest.save(manifest.record(file.parent), place, file.parent)
    # The toy family looks at no files, so that only the manifest can object.
    kept = msgspec.structs.replace(
        TOY, id="kept", path=str(file.parent), manifests=((str(file.parent), str(place)),)
    )
    with worker(kept, TOY) as talk:
        assert isinstance(talk.until(Loaded, LoadFailed), Loaded)
    file.write_bytes(bytes(8000) + b"\1" * 1000)
    with worker(kept, TOY) as talk:
        failed = talk.until(Loaded, LoadFailed)
        assert isinstance(failed, LoadFailed)
        assert "unet.safetensors has other contents" in failed.reason
        loaded = talk.until(Loaded)
        assert isinstance(loaded, Loaded)
        assert loaded.model == "toy"


def test_attachments_reach_the_canvas_and_are_forgotten_on_release() -> None:
    red, blue = (Image(1, 1, "RGB", pixels) for pixels in (b"\xff\0\0", b"\0\0\xff"))
    edit = job(task="edit", inputs=1)
    with worker() as talk:
        talk.say(Attach("j", 0, "input", red), Paint(edit, 0))
        first = talk.until(Finished)
        talk.say(Release("j"), Attach("j", 0, "input", blue), Paint(edit, 0))
        second = talk.until(Finished)
        assert isinstance(first, Finished)
        assert isinstance(second, Finished)
        assert first.image != second.image


def test_the_steps_of_a_tick_come_together() -> None:
    """Each message wakes the server."""
    many = job("slow owl", steps=8, seeds=(1, 2, 3))
    with worker() as talk:
        talk.until(Room)
        talk.say(*(Paint(many, index) for index in range(3)))
        messages: list[int] = []
        unframer, finished = wire.events(), 0
        while finished < 3:
            events = list(unframer.feed(talk.connection.recv(1 << 20)))
            messages.append(sum(isinstance(event, Step) for event in events))
            finished += sum(isinstance(event, Finished) for event in events)
        assert sum(messages) == 3 * 8
        assert sum(steps for steps in messages if steps >= 3) >= 5 * 3


def test_a_cancelled_canvas_stops_within_a_step() -> None:
    with worker() as talk:
        talk.say(Paint(job("slow owl", steps=1000), 0))
        talk.until(Step)
        talk.say(Cancel("j", 0))
        began = time.monotonic()
        assert talk.until(Cancelled, Finished) == Cancelled("j", 0)
        assert time.monotonic() - began < 1
        talk.say(Paint(job(), 0))
        assert isinstance(talk.until(Finished, Failed), Finished)


def test_a_model_that_does_not_load_leaves_the_others_alone() -> None:
    with worker(BROKEN, TOY) as talk:
        assert talk.until(LoadFailed) == LoadFailed("broken", "ValueError: this toy is broken")
        talk.say(Paint(job(model="broken"), 0))
        failed = talk.until(Failed)
        assert isinstance(failed, Failed)
        assert failed.fault.kind == "load_failed"
        talk.say(Paint(job(), 0))
        assert isinstance(talk.until(Finished, Failed), Finished)


def toys(*names: str, keep_seconds: float = 0.0) -> list[ModelSpec]:
    """Toys of a megabyte each, the first of which is loaded ahead."""
    return [
        ModelSpec(
            id=name,
            family="toy",
            width=64,
            height=64,
            preload=name == names[0],
            keep_seconds=keep_seconds,
        )
        for name in names
    ]


def test_models_are_loaded_when_asked_for_and_given_up_for_others() -> None:
    with worker(*toys("a", "b", "c"), memory=5 << 19) as talk:  # room for two
        loaded = talk.until(Loaded, Room)
        assert isinstance(loaded, Loaded)
        assert (loaded.model, loaded.size) == ("a", 1 << 20)
        assert isinstance(talk.hear(), Room)
        story = []
        for name in ("b", "a", "c", "b"):
            talk.say(Paint(job(model=name), 0))
            while not isinstance(event := talk.until(Loaded, Evicted, Finished), Finished):
                story.append((type(event).__name__, event.model))
        assert story == [
            *(("Loaded", "b"), ("Evicted", "b"), ("Loaded", "c")),
            *(("Evicted", "a"), ("Loaded", "b")),
        ]


def test_no_model_is_loaded_under_a_running_canvas() -> None:
    with worker(*toys("a", "b")) as talk:
        talk.say(Paint(job("slow owl", model="a", id="long"), 0))
        talk.until(Step)
        talk.say(Paint(job(model="b", id="other"), 0), Paint(job(model="b", id="gone"), 0))
        talk.say(Cancel("gone", 0))
        ends = [talk.until(Finished, Cancelled, Loaded) for _ in range(4)]
        assert [getattr(end, "job", "loaded") for end in ends] == [
            *("gone", "long", "loaded", "other")
        ]


def test_an_idle_model_is_given_up_in_time() -> None:
    with worker(*toys("a", keep_seconds=0.2)) as talk:
        talk.until(Room)
        assert talk.until(Evicted) == Evicted("a")
        talk.say(Paint(job(model="a"), 0))
        assert isinstance(talk.until(Finished, Failed), Finished)


def test_a_model_that_pays_in_larger_company_makes_room_for_it() -> None:
    small, large = toys("small", "large")
    small = msgspec.structs.replace(small, max_batch=1)
    large = msgspec.structs.replace(large, max_batch=16)
    with worker(small, large) as talk:
        first = talk.until(Room)
        talk.say(Paint(job(model="large"), 0))
        more = talk.until(Room)
        assert isinstance(first, Room)
        assert isinstance(more, Room)
        assert more.canvases > first.canvases


def test_what_is_busy_is_not_given_up() -> None:
    with worker(*toys("a", keep_seconds=0.2)) as talk:
        talk.until(Room)
        for number in range(3):
            talk.say(Paint(job("slow owl", model="a", id=f"j{number}", steps=10), 0))
        ends = [talk.until(Finished, Evicted) for _ in range(3)]
        assert [type(end) for end in ends] == [Finished] * 3
        assert talk.until(Evicted) == Evicted("a")


def test_a_model_that_does_not_load_is_not_tried_for_each_that_waits() -> None:
    broken = msgspec.structs.replace(BROKEN, preload=False)
    with worker(TOY, broken) as talk:
        talk.until(Room)
        talk.say(*(Paint(job(model="broken", id=f"j{number}"), 0) for number in range(4)))
        heard = [talk.until(Loading, Failed) for _ in range(5)]
        assert [type(event) for event in heard] == [Loading, *[Failed] * 4]


def test_work_that_is_not_set_up_is_answered() -> None:
    with worker() as talk:
        talk.say(Cutout("j"))
        failed = talk.until(Failed)
        assert isinstance(failed, Failed)
        assert failed.fault.kind == "not_configured"


@pytest.mark.parametrize(("word", "kind"), [("nan", "not_finite"), ("oom-always", "out_of_memory")])
def test_faults_have_their_kind(word: str, kind: str) -> None:
    with worker() as talk:
        talk.say(Paint(job(word), 0))
        failed = talk.until(Failed, Finished)
        assert isinstance(failed, Failed)
        assert failed.fault.kind == kind


def test_out_of_memory_together_is_no_fault_alone() -> None:
    with worker() as talk:
        talk.say(Paint(job("slow oom"), 0), Paint(job("slow oom"), 1))
        assert isinstance(talk.until(Finished, Failed), Finished)
        assert isinstance(talk.until(Finished, Failed), Finished)


def test_it_stops_when_told() -> None:
    with worker() as talk:
        talk.say(Paint(job("slow owl", steps=1000), 0))
        talk.until(Step)
        talk.say(Stop())
        talk.until(Cancelled)
        assert talk.exit_code() == 0


def test_it_ends_when_the_server_is_gone_even_in_the_middle_of_a_forward() -> None:
    with worker() as talk:
        talk.say(Paint(job("hang"), 0))
        talk.until(Room)
        talk.connection.close()
        assert talk.exit_code() == 0


def test_it_ends_when_the_server_is_gone_with_events_unread() -> None:
    with worker() as talk:
        talk.until(Room)
        talk.say(Paint(job(), 0))
        time.sleep(0.5)  # its events lie in our socket, so closing resets the connection
        talk.connection.close()
        assert talk.exit_code() == 0


def test_it_knows_nothing_of_the_program_that_started_it(tmp_path: Path) -> None:
    """As from the installed script, whose module a forked child would otherwise run again."""
    script = tmp_path / "limner"
    script.write_text(
        "import pathlib, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        f"pathlib.Path({str(tmp_path)!r}, __name__).touch()\n"
        "from models import launch, wire\n"
        "from models.contract import ModelSpec, WorkerSpec\n"
        "if __name__ == '__main__':\n"
        "    launch.prepare({'toy'}, 1)\n"
        "    toy = ModelSpec(id='toy', family='toy', width=8, height=8)\n"
        "    process, ours = launch.start(WorkerSpec(name='t', device='cpu', models=(toy,)))\n"
        "    assert ours.recv(9)\n"
        "    process.kill()\n"
    )
    subprocess.run([sys.executable, script], check=True, timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["__main__", "limner"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="asks Linux")
@pytest.mark.parametrize("chosen", [None, "/elsewhere"])
def test_what_is_compiled_is_kept_where_the_server_says(tmp_path: Path, chosen: str | None) -> None:
    """Unless whoever starts it says so already. Told by the forkserver, as workers inherit it."""
    script = (
        "from pathlib import Path\n"
        "import psutil\n"
        "from models import launch\n"
        "from models.contract import ModelSpec, WorkerSpec\n"
        f"launch.prepare({{'toy'}}, 1, Path({str(tmp_path)!r}))\n"
        "toy = ModelSpec(id='toy', family='toy', width=8, height=8)\n"
        "process, ours = launch.start(WorkerSpec(name='t', device='cpu', models=(toy,)))\n"
        "assert ours.recv(9)\n"
        "print(Path(f'/proc/{psutil.Process(process.pid).ppid()}/environ').read_text())\n"
        "process.kill()\n"
    )
    name = "TORCHINDUCTOR_CACHE_DIR"
    env = {key: value for key, value in os.environ.items() if key != name}
    env |= {name: chosen} if chosen else {}
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE, env=env).stdout
    assert f"{name}={chosen or tmp_path}".encode() in told.split(b"\0")


def test_a_crash_ends_the_connection() -> None:
    with worker() as talk:
        talk.say(Paint(job("crash"), 0))
        began = time.monotonic()
        while talk.hear() is not None:
            pass
        assert time.monotonic() - began < 10
        assert talk.exit_code() == 13


def test_interrupts_are_the_servers_business() -> None:
    with worker() as talk:
        talk.until(Room)
        psutil.Process(talk.process.pid).send_signal(signal.SIGINT)
        psutil.Process(talk.process.pid).send_signal(signal.SIGTERM)
        talk.say(Paint(job(), 0))
        assert isinstance(talk.until(Finished, Failed), Finished)


def test_it_is_named_in_the_process_list() -> None:
    with worker() as talk:
        talk.until(Ready)
        assert psutil.Process(talk.process.pid).cmdline()[0].startswith("limner worker cpu")
