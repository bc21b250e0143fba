"""What serving costs: the script on a real server, and what it makes of what it sees."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench import distraction, serving
from bench.running import NotReady, running
from bench.tally import Sample


def sample(done: float) -> Sample:
    return Sample(number=0, kind="x", due=0, sent=0, done=done, status=200, images=1)


def test_filling_up_and_running_dry_do_not_count() -> None:
    burst = [sample(0.1)] * serving.CLIENTS
    dry = [sample(100.0)] * serving.CLIENTS
    even = [sample(1.0 + i / 4) for i in range(9)]
    assert serving.steady([*dry, *even, *burst]) == pytest.approx(4.0)


def test_lateness_is_told_in_ms_of_the_clock_and_of_the_loops_own_work() -> None:
    rows = np.array([[0.0, 0.001, 0.0005, 0.002]] * 99 + [[0.0, 0.050, 0.002, 0.030]])
    told = distraction.lateness(rows)
    assert told["ticks"] == 100
    assert told["late_ms"]["p50"] == 1.0
    assert told["late_ms"]["max"] == 50.0
    assert told["own_late_ms"]["p50"] == 0.0
    assert told["own_late_ms"]["max"] == 20.0
    rows[:, 3] = np.nan  # where nobody tells
    assert distraction.lateness(rows)["own_late_ms"] is None
    assert told["calculated_ms"]["max"] == 2.0


def test_a_server_that_does_not_get_ready_says_its_last_words() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no weights here')"]
    with pytest.raises(NotReady, match="no weights here"), running(lambda port: command):
        pass


def test_a_server_that_dawdles_is_not_waited_for_longer_than_told() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    began = time.monotonic()
    with pytest.raises(NotReady), running(lambda port: command, patience=0.2):
        pass
    assert time.monotonic() - began < 10


def test_the_script_says_plainly_that_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def dawdling(rounds: int) -> None:
        raise NotReady("no weights here")

    monkeypatch.setattr(serving, "session", dawdling)
    with pytest.raises(SystemExit, match="no weights here"):
        serving.main(["--only", "picture"])


def test_a_server_is_ended_with_all_that_it_started() -> None:
    child = "import subprocess, sys; subprocess.Popen(['sleep', '60']); "
    waits = "import time; time.sleep(60)"
    command = [sys.executable, "-c", child + waits]
    with running(lambda port: command, lambda client: True) as server:
        while len(server.family()) < 2:
            time.sleep(0.01)
        family = server.family()
    assert not any(each.is_running() for each in family)


def test_a_script_that_is_ended_ends_its_servers() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    left, before = list[psutil.Process](), signal.getsignal(signal.SIGTERM)

    def script() -> None:
        with running(lambda port: command, lambda client: True) as server:
            left.extend(server.family())
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(SystemExit, match="143"):
        script()
    assert left
    assert not any(each.is_running() for each in left)
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serving.main(["--only", "picture,picnic"])
    assert "there is no picnic" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WAYS", {"small": (128, "png")})
    monkeypatch.setattr(serving, "MIXES", {"2/3": (2, 3)})
    monkeypatch.setattr(serving, "SOAK", 4)
    monkeypatch.setattr(distraction, "STEPS", 20)
    monkeypatch.setattr(distraction, "LISTENERS", 20)
    out = tmp_path / "figures.json"
    serving.main(["--rounds", "1", "--out", str(out)])
    found = json.loads(out.read_text())
    small = found["picture"]["small"]
    assert small["pairs"] == 6
    assert small["served_seconds"] > 0 < small["bare_seconds"]
    assert small["of_which_ms"]["encode"] > 0
    assert found["saturation"]["served_to_bare"] > 0
    assert found["saturation"]["served_to_tuned"] > 0
    assert 2 <= found["saturation"]["canvases"] <= 8
    assert found["listeners"]["ratio"] > 0
    assert found["stalls"]["idle"]["ticks"] > 100 < found["stalls"]["loaded"]["ticks"]
    assert {*found["memory"]["mb"]} == {"server", "worker"}
