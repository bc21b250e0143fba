"""Who waits and who goes next: nothing lost, nothing doubled, everybody in turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from models.contract import Job
from server.jobs.backlog import LOOK_AHEAD, Backlog, Canvas

MODELS = frozenset({"m"})


def job(name: str, n: int = 1, model: str = "m") -> Job:
    return Job(
        id=name,
        model=model,
        task="generate",
        prompt="",
        width=8,
        height=8,
        steps=1,
        guidance=1.0,
        seeds=tuple(range(n)),
    )


def names(canvases: list[Canvas]) -> list[str]:
    return [f"{canvas.job.id}{canvas.index}" for canvas in canvases]


def test_requests_of_one_account_take_turns() -> None:
    backlog = Backlog(99)
    backlog.push(job("big", 4), "ann")
    backlog.push(job("small", 1), "ann")
    assert names(backlog.take(99, 0, MODELS, MODELS)) == ["big0", "small0", "big1", "big2", "big3"]


def test_accounts_take_turns_whatever_they_asked_for() -> None:
    backlog = Backlog(99)
    for request in range(3):
        backlog.push(job(f"a{request}-", 2), "ann")
    backlog.push(job("b0-", 2), "bob")
    taken = names(backlog.take(99, 0, MODELS, MODELS))
    assert taken[:4] == ["a0-0", "b0-0", "a1-0", "b0-1"]
    assert len(taken) == 8


def test_what_waits_is_counted_by_model() -> None:
    backlog = Backlog(99)
    assert backlog.by_model == Counter()
    backlog.push(job("a", 3), "ann")
    backlog.push(job("b", 2, "x"), "bob")
    (taken, *_) = backlog.take(1, 0, MODELS, MODELS)
    assert backlog.by_model == Counter(m=2, x=2)
    backlog.put_back(taken)
    assert backlog.by_model == Counter(m=3, x=2)


def test_turns_are_remembered_between_takes() -> None:
    backlog = Backlog(99)
    backlog.push(job("a", 2), "ann")
    backlog.push(job("b", 2), "bob")
    taken = [name for _ in range(4) for name in names(backlog.take(1, 0, MODELS, MODELS))]
    assert taken == ["a0", "b0", "a1", "b1"]


def test_models_that_a_worker_lacks_stay_and_block_nobody() -> None:
    backlog = Backlog(99)
    backlog.push(job("other", 1, "x"), "ann")
    backlog.push(job("ours", 1), "ann")
    assert names(backlog.take(9, 0, MODELS, MODELS)) == ["ours0"]
    assert len(backlog) == 1
    assert backlog.jobs_of("x") == {"other"}


BOTH = frozenset({"m", "x"})


def test_a_model_is_loaded_by_an_empty_worker_and_comes_alone() -> None:
    backlog = Backlog(99)
    backlog.push(job("other", 2, "x"), "ann")
    assert backlog.take(9, 1, BOTH, MODELS) == []
    backlog.push(job("ours", 2), "bob")
    assert names(backlog.take(9, 0, BOTH, MODELS)) == ["ours0", "ours1"]
    assert names(backlog.take(9, 0, BOTH, MODELS)) == ["other0", "other1"]


def test_what_is_in_memory_goes_ahead_but_only_so_often() -> None:
    backlog = Backlog(999)
    backlog.push(job("other", 1, "x"), "ann")
    for number in range(50):
        backlog.push(job(f"ours{number}-", 1), "bob")
    ahead = [name for _ in range(50) for name in names(backlog.take(1, 1, BOTH, MODELS))]
    assert len(ahead) == LOOK_AHEAD
    assert names(backlog.take(4, 0, BOTH, MODELS))[0] == "other0"


def test_nobody_waits_for_ever_behind_a_stream_of_others() -> None:
    """Also not where the one who waits asks for what is in memory as well."""
    backlog = Backlog(999)
    backlog.push(job("x", 1, "x"), "ann")
    for number in range(5 * LOOK_AHEAD):
        backlog.push(job(f"m{number}-", 1), "ann" if number % 2 else "bob")
        if names(backlog.take(1, 0, BOTH, MODELS)) == ["x0"]:
            return
    raise AssertionError("it still waits")


@given(st.lists(st.tuples(st.sampled_from("mx"), st.sampled_from("ab")), max_size=80))
def test_two_models_in_turn_do_not_drive_each_other_out(asked: list[tuple[str, str]]) -> None:
    """The worker changes models at most once in LOOK_AHEAD canvases, and everybody is served."""
    backlog = Backlog(999)
    for number, (model, account) in enumerate(asked):
        backlog.push(job(f"{number}-", 1, model), account)
    resident, changes, served = "m", 0, 0
    while taken := backlog.take(3, 0, BOTH, {resident}):
        (model,) = {canvas.job.model for canvas in taken}
        changes += model != resident
        resident = model
        served += len(taken)
    assert served == len(asked)
    assert changes <= 2 + len(asked) / LOOK_AHEAD


def test_what_lost_its_worker_goes_first_and_alone() -> None:
    backlog = Backlog(1)
    backlog.push(job("new", 2), "ann")
    backlog.put_back(Canvas(job("hurt", 2), 1))
    assert backlog.take(9, 1, MODELS, MODELS) == []
    assert names(backlog.take(9, 0, MODELS, MODELS)) == ["hurt1"]
    assert names(backlog.take(9, 0, MODELS, MODELS)) == ["new0", "new1"]


def test_nothing_goes_where_there_is_no_room() -> None:
    backlog = Backlog(9)
    backlog.push(job("a", 2), "ann")
    assert backlog.take(0, 4, MODELS, MODELS) == []
    assert backlog.take(-1, 4, MODELS, MODELS) == []


def test_the_limit_counts_canvases() -> None:
    backlog = Backlog(3)
    backlog.push(job("a", 2), "ann")
    assert backlog.fits(1)
    assert not backlog.fits(2)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 4), st.sampled_from("abc")),
        st.tuples(st.just("take"), st.integers(0, 5), st.integers(0, 2)),
        st.tuples(st.just("drop"), st.integers(0, 9), st.none()),
        st.tuples(st.just("return"), st.none(), st.none()),
    ),
    max_size=40,
)


@given(steps)
def test_canvases_are_neither_lost_nor_doubled(script: list[tuple[str, int, object]]) -> None:
    backlog = Backlog(10_000)
    pushed: Counter[str] = Counter()
    left: Counter[str] = Counter()
    out: list[Canvas] = []
    for number, (action, first, second) in enumerate(script):
        match action:
            case "push":
                new = job(f"{number}-", first)
                backlog.push(new, str(second))
                pushed.update(f"{new.id}{index}" for index in range(first))
            case "take":
                taken = backlog.take(first, int(str(second)), MODELS, MODELS)
                assert len(taken) <= max(first, 1)
                out += taken
                left.update(names(taken))
            case "drop":
                name = f"{first}-"
                left.update(f"{name}{index}" for index in backlog.drop(name))
            case _:
                if out:
                    canvas = out.pop()
                    left.subtract(names([canvas]))
                    backlog.put_back(canvas)
        assert len(backlog) == (pushed - left).total()
    while taken := backlog.take(3, 0, MODELS, MODELS):
        left.update(names(taken))
    assert left == pushed
