"""The status of a server, told by its workers."""

from collections import Counter
from types import SimpleNamespace

import msgspec

from server.jobs.status import ModelStatus, Status, WorkerStatus, status


def worker(name: str = "cuda:0", **changes: object) -> SimpleNamespace:
    bare = {"resident": set(), "loading": None, "failures": {}, "sizes": {}}
    return SimpleNamespace(**{"name": name, "device": name, "state": "ready"} | bare | changes)


def states(*workers: SimpleNamespace, models: str = "abc") -> dict[str, str]:
    told = status([*models], workers, Counter(), Counter(), 1.0)
    return {each.id: each.state for each in told.models}


def test_each_model_is_in_one_state() -> None:
    busy = worker(resident={"a"}, sizes={"a": 5}, loading="b", failures={"c": "no file"})
    assert states(busy, models="abcd") == {
        "a": "resident",
        "b": "loading",
        "c": "failed",
        "d": "on disk",
    }


def test_a_model_has_failed_only_where_no_worker_may_have_it() -> None:
    broken = worker(failures={"a": "x", "b": "x"})
    assert states(broken, worker(resident={"a"}, sizes={"a": 1}), models="ab") == {
        "a": "resident",
        "b": "on disk",
    }
    assert states(broken, broken, models="ab") == {"a": "failed", "b": "failed"}


def test_counts_and_bytes_add_up_and_it_survives_the_wire() -> None:
    seats = [worker(f"cuda:{i}", resident={"a"}, sizes={"a": 5, "b": 7}) for i in range(2)]
    told = status(["a", "b"], seats, Counter(a=2), Counter(a=1, b=4), 61.04)
    assert told == Status(
        uptime=61.0,
        workers=(
            WorkerStatus("cuda:0", "cuda:0", "ready"),
            WorkerStatus("cuda:1", "cuda:1", "ready"),
        ),
        models=(
            ModelStatus("a", "resident", bytes=10, running=2, waiting=1),
            ModelStatus("b", "on disk", waiting=4),
        ),
    )
    assert msgspec.json.decode(msgspec.json.encode(told), type=Status) == told
