"""The comparison with other servers: all paint the same, and what came of it is told."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from bench.peers import account, run
from bench.peers.painting import WARM_UP, Wish, loaded, painted, painted_in_groups
from bench.running import Server
from bench.tally import Sample

KINDS = ("short", "long")


def contestant(name: str, *rounds: list[Sample]) -> run.Contestant:
    made = run.Contestant(name, run.PEER, lambda port: [])
    made.rounds, made.cpu_seconds = list(rounds), [2.0 for _ in rounds]
    return made


def sample(done: float, kind: str = "short", status: int = 200) -> Sample:
    return Sample(number=0, kind=kind, due=0, sent=0, done=done, status=status, images=1)


def test_figures_are_of_the_middle_round_and_of_all_latencies() -> None:
    rounds = ([sample(1.0), sample(2.0, "long")], [sample(4.0), sample(2.0)], [sample(0.5)])
    told = run.figures(contestant("x", *rounds), KINDS)
    assert told["rounds"] == [1.0, 0.5, 2.0]
    assert told["images_per_second"] == 1.0
    assert told["cpu_seconds_per_image"] == 1.0
    assert told["latency"]["short"]["p50"] == 1.5
    assert told["errors"] == 0


def test_what_is_not_answered_is_no_image() -> None:
    told = run.figures(contestant("x", [sample(1.0), sample(2.0, status=500)]), KINDS)
    assert (told["images_per_second"], told["errors"]) == (0.5, 1)


def document(*names: str) -> account.Document:
    request = [{"name": "short", "weight": 3, "steps": 4}, {"name": "long", "steps": 40}]
    rows = [
        run.figures(contestant(name, [sample(1.0 + i), sample(2.0 + i, "long")]), KINDS)
        for i, name in enumerate(names)
    ]
    return {"clients": 8, "mix": {"request": request}, "contestants": rows}


def test_the_table_holds_everybody_against_limner(tmp_path: Path) -> None:
    text = account.table(document("limner", "another"))
    assert "8 clients; 3 × 4 steps, 1 × 40 steps" in text
    assert "| CPU s per image | failed |" in text
    assert "| limner | 1.00 | 1.00 | 1.000 | 0 |" in text
    assert "| another | 0.67 | 1.50 |" in text
    account.chart(document("limner", "another"), path := tmp_path / "chart.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_peer_whose_library_is_missing_is_left_out(tmp_path: Path) -> None:
    made = run.contestants(tmp_path)
    assert all(each.there for each in made if not each.needs)
    made[-1].needs = "no_such_library"
    assert not made[-1].there
    assert len({each.name for each in made}) == len(made)


def test_wishes_of_several_manners_are_painted_in_their_order() -> None:
    pipe = loaded(str(run.FOLDER))
    wishes = [Wish.of(WARM_UP | {"seed": seed, "steps": 2 + seed % 2}) for seed in range(4)]
    together = painted_in_groups(pipe, wishes)
    for wish, image in zip(wishes, together, strict=True):
        (alone,) = painted(pipe, [wish])
        pairs = zip(alone.tobytes(), image.tobytes(), strict=True)
        assert max(abs(a - b) for a, b in pairs) <= 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everybody_who_is_there_paints_the_same(tmp_path: Path) -> None:
    out = tmp_path / "peers"
    run.main(["--rounds", "1", "--count", "10", "--out", str(out)])  # exits if somebody does not
    found = json.loads(out.with_suffix(".json").read_text())
    assert len(found["contestants"]) >= 4
    assert all(row["images_per_second"] > 0 for row in found["contestants"])
    assert out.with_suffix(".png").exists()


def test_a_server_that_is_held_gets_no_time() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        server = Server(process, "", httpx2.Client(), 0.0)
        with server.held():
            before = server.cpu_seconds()
            time.sleep(0.3)
            assert server.cpu_seconds() == before
        time.sleep(0.3)
        assert server.cpu_seconds() > before
        process.kill()
