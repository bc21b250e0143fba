"""The load script: what it sends, what it counts from, and what it makes of the answers."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import load, mix, publish, report, speech, tally
from bench.drive import Load
from bench.mix import Kind, Plan
from bench.tally import Sample

ROOT = Path(__file__).parents[2]
PNG = speech.picture(64, 64)


class Handler(BaseHTTPRequestHandler):
    """A server that takes a while, one request at a time, and answers a picture, or what else it
    is to answer."""

    seconds = 0.0
    answer, kind = PNG, "image/png"
    turn = threading.Lock()
    timing = 'cache, queue;dur=20, paint;desc="on a, b;dur=7";dur=100.5'

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.turn:
            time.sleep(self.seconds)
        self.send_response(200)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.answer)))
        self.send_header("Server-Timing", self.timing)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(**told: object) -> Iterator[str]:
    handler = type("Own", (Handler,), {"turn": threading.Lock(), **told})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def slow() -> Iterator[str]:
    """A server that answers ten requests a second and no more."""
    with answering(seconds=0.1) as url:
        yield url


def drive(
    url: str,
    how: str,
    *said: float,
    kind: Kind | None = None,
    limit: float = 30,
    dialect: str = "aimo",
) -> list[Sample]:
    async def run() -> list[Sample]:
        async with httpx2.AsyncClient(base_url=url, timeout=None) as client:
            plan = Plan(mix.plain([kind or Kind(name="x", model="m")]), 0)
            one = Load(client, speech.DIALECTS[dialect], plan, limit, lambda _: None)
            await getattr(one, how)(*said)
            return one.samples

    return asyncio.run(run())


def test_in_a_closed_loop_nobody_waits_for_more_than_the_clients_before_it(slow: str) -> None:
    samples = drive(slow, "closed", 2, 0, 10)
    assert len(samples) == 10
    figures = tally.summary(samples)
    assert figures["latency"]["p50"] >= 0.19  # its own turn, and that of the other client
    assert 0 < figures["images_per_second"] <= 10.1


def test_what_a_server_says_of_its_time_is_read_from_its_header(slow: str) -> None:
    figures = tally.summary(drive(slow, "closed", 1, 0, 2))
    assert figures["queue"]["p50"] == 0.02
    assert figures["paint"]["p50"] == 0.1005
    assert figures["encode"] == {}


def test_at_a_rate_beyond_the_server_waiting_grows_and_counts_from_when_it_was_due(
    slow: str,
) -> None:
    samples = sorted(drive(slow, "opened", 20.0, 2.0, 1), key=lambda sample: sample.due)
    assert samples[-1].latency > 0.5 * len(samples) * 0.1  # the last had half of them before it
    assert all(sample.latency >= 0.09 for sample in samples)
    assert tally.summary(samples, slo=0.3)["goodput"] < 0.6


def test_all_at_once_are_all_answered(slow: str) -> None:
    samples = drive(slow, "offline", 8)
    assert len(samples) == 8
    assert max(sample.latency for sample in samples) >= 0.79  # the last had all before it


def test_clients_that_leave_are_no_errors(slow: str) -> None:
    leaver = Kind(name="x", model="m", cancel=1.0, cancel_after=0.02)
    figures = tally.summary(drive(slow, "closed", 1, 0, 3, kind=leaver))
    assert (figures["left"], figures["errors"], figures["answered"]) == (3, {}, 0)


@pytest.mark.parametrize(
    ("dialect", "events"),
    [
        ("openai", ['{"type": "image_generation.completed"}']),
        ("aimo", ['{"status": "processing", "images": [], "partial_image_index": 0}']),
    ],
)
def test_a_stream_that_ends_before_its_pictures_is_an_error(
    dialect: str, events: list[str]
) -> None:
    stream = "".join(f"data: {each}\n\n" for each in [*events, "[DONE]"]).encode()
    with answering(answer=stream, kind="text/event-stream") as url:
        two = Kind(name="x", model="m", n=2, stream=True)
        (found,) = drive(url, "offline", 1, kind=two, dialect=dialect)
    assert (found.good, found.error) == (False, f"{int(dialect == 'openai')} of 2 images")


def test_fewer_pictures_than_were_asked_for_are_an_error(slow: str) -> None:
    (found,) = drive(slow, "offline", 1, kind=Kind(name="x", model="m", n=2))
    assert (found.good, found.error) == (False, "1 of 2 images")


def test_an_answer_is_waited_for_no_longer_than_the_limit(slow: str) -> None:
    samples = drive(slow, "offline", 3, limit=0.15)
    assert sorted(sample.error for sample in samples) == ["", *["no answer in 0.15 s"] * 2]
    assert all(sample.latency < 0.3 for sample in samples)
    assert tally.summary(samples)["goodput"] == pytest.approx(1 / 3, abs=1e-4)


def test_a_server_that_is_not_there_is_an_error() -> None:
    figures = tally.summary(drive("http://127.0.0.1:9", "offline", 2))
    assert figures["errors"] == {"0: ConnectError": 2}


def sample(due: float, done: float, **more: object) -> Sample:
    said = {"number": 0, "kind": "x", "sent": due, "status": 200, "images": 1}
    return Sample(due=due, done=done, **(said | more))


def test_lateness_of_the_script_itself_is_told() -> None:
    late = sample(1.0, 3.0, sent=2.5)
    assert late.latency == 2.0
    assert tally.summary([late])["late_sending"]["p50"] == 1.5


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50), st.floats(0.01, 100))
def test_goodput_is_the_share_within_the_limit(latencies: list[float], slo: float) -> None:
    samples = [sample(0.0, seconds) for seconds in latencies]
    figures = tally.summary(samples, slo)
    wanted = sum(each <= slo for each in latencies) / len(latencies)
    assert figures["goodput"] == pytest.approx(wanted, abs=1e-4)
    assert figures["latency"]["p50"] <= figures["latency"]["p95"] <= figures["latency"]["p99"]


def test_a_plan_is_the_same_for_its_seed_and_follows_its_weights() -> None:
    mixed = mix.plain([Kind(name="a", weight=3, cancel=0.5), Kind(name="b")])
    one, same, other = Plan(mixed, 1), Plan(mixed, 1), Plan(mixed, 2)
    drawn = [one.draw() for _ in range(2000)]
    assert drawn == [same.draw() for _ in range(2000)]
    assert drawn != [other.draw() for _ in range(2000)]
    assert sum(each.kind.name == "a" for each in drawn) == pytest.approx(1500, abs=100)
    assert sum(each.leaves for each in drawn) == pytest.approx(750, abs=100)


def test_another_turn_of_a_plan_is_the_same_with_prompts_that_nobody_has_read() -> None:
    mixed = mix.plain([Kind(name="a", cancel=0.5), Kind(name="b", same_prompt=True)])
    turns = [[plan.draw() for _ in range(200)] for plan in (Plan(mixed, 1), Plan(mixed, 1, 1))]
    orders = [[(each.number, each.kind, each.leaves) for each in drawn] for drawn in turns]
    assert orders[0] == orders[1]
    prompts = [each.prompt for drawn in turns for each in drawn if each.kind.name == "a"]
    assert len({*prompts}) == len(prompts)
    assert all(prompt.startswith("a red circle on a blue background ") for prompt in prompts)
    same = {each.prompt for drawn in turns for each in drawn if each.kind.name == "b"}
    assert same == {"a red circle on a blue background"}


def test_the_shipped_mixes_are_right() -> None:
    files = [*(ROOT / "bench" / "mixes").glob("*.toml")]
    assert files
    for path in files:
        assert mix.read(path).request


def test_a_wrong_mix_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mix.toml"
    path.write_text('[[request]]\nname = "a"\nstepps = 3\n')
    with pytest.raises(ValueError, match=r"request\.0\.stepps"):
        mix.read(path)


def test_the_script_writes_its_figures(slow: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "figures"
    flags = ["--model", "m", "--base", "", "--warm-up", "1", "--seconds", "0", "--count", "4"]
    load.main([slow, "--clients", "1,2", *flags, "--out", str(out)])
    document = json.loads(out.with_suffix(".json").read_text())
    assert [each["answered"] for each in document["loads"]] == [4, 4]
    assert document["machine"]["versions"]["limner"]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert report.table(document["loads"]) in capsys.readouterr().out
    assert f"aimo; 1 × picture (m)\n\n{report.table(document['loads'])}" == (
        out.with_suffix(".md").read_text().strip()
    )


def test_the_script_gives_up_on_a_server_that_is_slower_than_the_limit(
    slow: str, tmp_path: Path
) -> None:
    flags = ["--model", "m", "--base", "", "--limit", "0.05", "--seconds", "0", "--count", "2"]
    with pytest.raises(SystemExit, match=r"warm-up of picture: no answer in 0\.05 s"):
        load.main([slow, *flags, "--warm-up", "1"])
    out = tmp_path / "figures"
    with pytest.raises(SystemExit, match="not answered at all"):
        load.main([slow, *flags, "--warm-up", "0", "--out", str(out)])
    (figures,) = json.loads(out.with_suffix(".json").read_text())["loads"]
    assert figures["errors"] == {"0: no answer in 0.05 s": 2}


def test_what_the_dialect_cannot_say_is_refused_before_anything_is_asked(capsys) -> None:
    mixed = str(ROOT / "bench" / "mixes" / "mixed.toml")
    with pytest.raises(SystemExit):
        load.main(["http://127.0.0.1:9", "--dialect", "depicta", "--mix", mixed])
    said = capsys.readouterr().err
    assert "words of depicta: mask: mask: there is no word for it; four: n: there is no" in said


def test_figures_are_published_under_the_name_of_what_painted(
    slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- bench: load-nvidia-h200 -->\n<!-- end -->\n")
    for name, path in (("README", page), ("PAGE", page), ("RESULTS", tmp_path)):
        monkeypatch.setattr(publish, name, path)
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "m", "--base", "", "--warm-up", "1", "--seconds", "0", "--count", "2"]
    load.main([slow, *flags, "--publish", "--device", "NVIDIA H200"])
    assert "NVIDIA H200" in page.read_text()
    assert "\n\naimo; 1 × picture (m)\n\n| load | images/s |" in page.read_text()
    kept = {path.name for path in tmp_path.glob("load-*")}
    assert kept == {f"load-nvidia-h200.{end}" for end in ("json", "md", "png")}


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--rates", "1", "--count", "4"], "--count is of closed loops"),
        (["--offline", "2", "--count", "4"], "--count is of closed loops"),
        (["--offline", "2", "--seconds", "5"], "leave --seconds out"),
        (["--offline", "0"], "none is no load"),
        (["--rates", "x"], "'x' is no list of numbers above 0"),
        (["--clients", "1,0"], "'1,0' is no list of numbers above 0"),
        (["--rates", "inf"], "'inf' is no list of numbers above 0"),
        (["--count", "-1"], "none is no load"),
        (["--clients", "2", "--seconds", "0"], "one of --seconds and --count"),
    ],
)
def test_what_would_not_act_is_refused(flags: list[str], fault: str, capsys) -> None:
    with pytest.raises(SystemExit):
        load.main(["http://127.0.0.1:9", *flags])
    assert fault in capsys.readouterr().err
