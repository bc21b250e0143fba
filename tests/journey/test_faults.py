"""What dies, leaves or ends: the server goes on answering, and nothing is lost in silence."""

import base64
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psutil
import pytest

GENERATE = "/api/v1/image/generate"


def wish(prompt: str = "an owl", **fields: object) -> dict[str, Any]:
    return {"model": "toy", "prompt": prompt, "seed": 1, **fields}


def pixels(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [image["data_url"] for image in answer.json()["images"]]


def test_a_crash_is_told_and_the_next_request_is_served(toy) -> None:
    answer = toy.post(GENERATE, **wish("crash"))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "worker_died"
    assert pixels(toy.post(GENERATE, **wish()))


def test_an_innocent_neighbour_of_a_crash_is_served(toy) -> None:
    toy.wait_until_ready_again()
    expected = pixels(toy.post(GENERATE, **wish("slow owl", steps=20)))
    with ThreadPoolExecutor() as pool:
        innocent = pool.submit(toy.post, GENERATE, **wish("slow owl", steps=20))
        time.sleep(0.2)
        guilty = pool.submit(toy.post, GENERATE, **wish("crash"))
        assert pixels(innocent.result()) == expected
        assert guilty.result().status_code == 500


def test_a_killed_worker_costs_no_request(toy) -> None:
    toy.wait_until_ready_again()
    expected = pixels(toy.post(GENERATE, **wish("slow owl", steps=20, n=3)))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(toy.post, GENERATE, **wish("slow owl", steps=20, n=3))
        time.sleep(0.4)
        toy.worker.kill()
        assert pixels(answer.result()) == expected


def test_health_and_readiness_tell_the_truth_while_the_worker_is_away(toy) -> None:
    toy.wait_until_ready_again()
    toy.worker.kill()
    with toy.client() as client:
        statuses = set()
        deadline = time.monotonic() + 20
        while statuses != {200, 503} and time.monotonic() < deadline:
            assert client.get("/healthz").status_code == 200
            statuses.add(client.get("/readyz").status_code)
        assert statuses == {200, 503}
    toy.wait_until_ready_again()


@pytest.mark.parametrize(
    ("word", "code"), [("nan", "internal_error"), ("oom-always", "insufficient_memory")]
)
def test_faults_are_told(toy, word: str, code: str) -> None:
    toy.wait_until_ready_again()
    answer = toy.post(GENERATE, **wish(word))
    assert answer.json()["error"]["code"] == code


def test_when_some_of_n_fail_the_others_are_delivered(toy) -> None:
    toy.wait_until_ready_again()
    answer = toy.post(GENERATE, **wish("odd", n=4))
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "failed"
    assert body["error"]["error"]["code"] == "internal_error"
    assert [image["index"] for image in body["images"]] == [1, 3]
    assert body["provider_metadata"]["raw"]["missed"] == [0, 2]


def test_when_all_of_n_fail_the_answer_is_the_error(toy) -> None:
    answer = toy.post(GENERATE, **wish("nan", n=3))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"


def occupied(server) -> bool:
    """Whether a request for every place of the worker has to wait: all four steps take 50 ms."""
    began = time.monotonic()
    assert len(pixels(server.post(GENERATE, **wish("slow owl", n=4, steps=4)))) == 4
    return time.monotonic() - began > 4


def test_leaving_a_stream_frees_the_worker_within_a_step(own_toy) -> None:
    """Four canvases of ten seconds fill the worker; their client leaves after two steps."""
    body = wish("slow owl", n=4, steps=200, stream=True)
    with own_toy.client() as client, client.stream("POST", GENERATE, json=body) as answer:
        events = (line for line in answer.iter_lines() if line.startswith("data: {"))
        while json.loads(next(events)[6:])["provider_metadata"]["raw"]["step"] < 2:
            pass
    assert not occupied(own_toy)
    assert "left with 4 images unfinished" in own_toy.log


def test_leaving_a_plain_request_frees_the_worker(own_toy) -> None:
    with own_toy.client() as client, pytest.raises(httpx2.ReadTimeout):
        client.post(GENERATE, json=wish("slow owl", n=4, steps=200), timeout=0.5)
    assert not occupied(own_toy)
    assert "left with 4 images unfinished" in own_toy.log


def test_leaving_while_waiting_frees_the_place_in_the_backlog(own_toy) -> None:
    with ThreadPoolExecutor() as pool:
        running = pool.submit(own_toy.post, GENERATE, **wish("slow owl", n=4, steps=30))
        time.sleep(0.3)
        with own_toy.client() as client, pytest.raises(httpx2.ReadTimeout):
            client.post(GENERATE, json=wish("slow owl", n=10, steps=200), timeout=0.3)
        assert len(pixels(running.result())) == 4
    assert not occupied(own_toy)


def test_termination_lets_the_running_finish(own_toy) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(own_toy.post, GENERATE, **wish("slow owl", steps=40))
        time.sleep(0.5)
        assert own_toy.stop() == 0
        assert pixels(answer.result())


def test_a_signal_to_the_whole_group_lets_the_running_finish(serving, toy_config) -> None:
    """As service managers send it: workers and decoders leave the ending to the server."""
    with serving("--config", str(toy_config), group=True) as server, ThreadPoolExecutor() as pool:
        answer = pool.submit(server.post, GENERATE, **wish("slow owl", steps=40))
        time.sleep(0.5)
        os.killpg(server.process.pid, signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert pixels(answer.result())


def test_termination_ends_an_endless_stream_after_the_grace(serving, toy_config) -> None:
    grace = {"LIMNER_SERVER__GRACE_SECONDS": "1"}
    with serving("--config", str(toy_config), environment=grace) as server:

        def listen() -> None:
            body = wish("slow owl", steps=200, n=4, stream=True)
            with (
                server.client() as client,
                client.stream("POST", GENERATE, json=body) as answer,
            ):
                list(answer.iter_lines())

        with ThreadPoolExecutor() as pool:
            listening = pool.submit(listen)
            time.sleep(0.5)
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 15
            assert listening.exception(10) is None or isinstance(
                listening.exception(), httpx2.HTTPError
            )


def test_nothing_outlives_a_killed_server(own_toy) -> None:
    children = psutil.Process(own_toy.process.pid).children(recursive=True)
    assert children
    own_toy.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_two_hundred_mixed_requests_under_fire(own_toy) -> None:
    """Six clients, a worker killed every so often: every answer is a picture or a known error."""
    stop = threading.Event()

    def assassin() -> None:
        while not stop.wait(1.5):
            for child in psutil.Process(own_toy.process.pid).children(recursive=True):
                if "limner worker" in " ".join(child.cmdline()):
                    child.kill()

    def ask(number: int) -> tuple[int, str]:
        answer = own_toy.post(GENERATE, **wish(f"owl {number}", n=1 + number % 3, steps=8))
        body = answer.json()
        return answer.status_code, body.get("error", {}).get("code", body.get("status"))

    killer = threading.Thread(target=assassin)
    killer.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(ask, range(200)))
    finally:
        stop.set()
        killer.join()
    assert set(outcomes) <= {(200, "completed"), (500, "worker_died"), (200, "failed")}
    assert outcomes.count((200, "completed")) >= 190


def test_pictures_are_what_they_say(toy) -> None:
    toy.wait_until_ready_again()
    answer = toy.post(GENERATE, **wish(output_format="webp"))
    (url,) = pixels(answer)
    head, data = url.split(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(data)[8:12] == b"WEBP"
