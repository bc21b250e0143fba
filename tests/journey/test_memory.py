"""Memory of the processes, and that it does not grow."""

from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

GENERATE = "/api/v1/image/generate"


def megabytes(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


@pytest.mark.long
def test_two_hundred_requests_leave_nothing_behind(serving) -> None:
    with serving() as server, ThreadPoolExecutor(4) as pool:

        def ask(number: int) -> None:
            answer = server.post(
                GENERATE, model="sketch", prompt="a red circle", steps=4, seed=number
            )
            assert answer.status_code == 200

        list(pool.map(ask, range(40)))
        before = megabytes(server.process.pid), megabytes(server.worker.pid)
        list(pool.map(ask, range(200)))
        after = megabytes(server.process.pid), megabytes(server.worker.pid)
        print(before, after)
        assert after[0] < 150
        assert after[1] < 1200
        assert after[0] - before[0] < 20
        assert after[1] - before[1] < 5
