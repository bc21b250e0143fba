"""Depicta's uploads and jobs, and requests that are sent twice, against a painter by script."""

import asyncio
import json
import time
from typing import Any

import pytest

from server import errors
from server.dialects import depicta_shapes
from tests.server.dialects.easel import PNG, URL
from tests.server.dialects.gallery import (
    BODIES,
    EDIT,
    GENERATE,
    PROMPT,
    Exhibition,
    told,
)
from tests.server.waiting import until

JPEG, WEBP = b"\xff\xd8\xff\xe0jpeg", b"RIFF0000WEBP"


@pytest.fixture
def place() -> Exhibition:
    return Exhibition()


# -- Uploads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP])
def test_an_upload_can_be_edited(place: Exhibition, data: bytes):
    answer = place.send("/upload", files={"image": ("a.png", data, "image/gif")})
    body = answer.json()
    depicta_shapes.Uploaded.model_validate(body)
    assert body["upload_url"] == body["image_url"]
    assert place.file(body["upload_url"]) == data


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"image": b"GIF89a"}, 422, "validation_error"),
        ({"image": b""}, 422, "validation_error"),
        ({"picture": PNG}, 422, "validation_error"),
        ([("image", PNG), ("image", PNG)], 422, "validation_error"),
        ({"image": PNG + bytes(50_001)}, 413, "payload_too_large"),
        ({"image": bytes(300_000)}, 413, "payload_too_large"),
    ],
)
def test_uploads_that_are_refused_leave_nothing(
    place: Exhibition, files: Any, status: int, code: str
):
    details = told(place.send("/upload", files=files), status, code)
    assert not details or "image" in details
    assert not place.front.artifacts._shelf.sizes()


def test_an_upload_is_a_form(place: Exhibition):
    told(place.send("/upload", content=PNG), 400, "bad_request")
    told(place.send("/upload", json={"image": URL}), 400, "bad_request")


# -- Jobs -----------------------------------------------------------------------------------------


def test_jobs_are_listed_and_told(place: Exhibition):
    answers = [place.asked(GENERATE).json(), place.asked(EDIT).json()]
    listed = place.get("/jobs").json()
    depicta_shapes.Generations.model_validate(listed)
    jobs = listed["generations"]
    assert [job["job_id"] for job in jobs] == [answers[1]["id"], answers[0]["id"]]
    job = place.get(f"/jobs/{answers[1]['id']}").json()
    assert (job["status"], job["operation"], job["model"]) == ("completed", "edit", "mends")
    assert place.file(job["formats"]["webp"]["url"]) == b"webp 0"
    assert job["result"]["formats"] == job["formats"]
    assert job["result"].keys() == answers[1].keys()
    assert place.get("/jobs?limit=1").json()["generations"][0]["job_id"] == answers[1]["id"]
    assert (
        place.get("/jobs?limit=1&offset=1").json()["generations"][0]["job_id"] == answers[0]["id"]
    )


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "offset=-1", "limit=\u0663"])
def test_lists_that_are_refused(place: Exhibition, query: str):
    told(place.get(f"/jobs?{query}"), 422, "validation_error")


@pytest.mark.parametrize("name", ["x", "0" * 32, "0" * 36, "{}", "urn:uuid:" + "0" * 27, "%00"])
def test_no_such_job(place: Exhibition, name: str):
    told(place.get(f"/jobs/{name}"), 404, "not_found")


def test_a_job_outlives_its_files(place: Exhibition):
    body = place.asked(GENERATE).json()
    place.front.artifacts._keep_seconds = -1
    job = place.get(f"/jobs/{body['id']}").json()
    depicta_shapes.Job.model_validate(job)
    assert job["status"] == "completed"
    assert "no longer kept" in job["message"]
    assert "result" not in job


def test_the_account_and_the_models(place: Exhibition):
    assert place.get("/account/profile").json() == {
        "user": {"email": "", "balance_eur": "0.000000", "held_eur": "0.000000"}
    }
    models = place.get("/models").json()["models"]
    assert [(each["id"], each["can_edit"]) for each in models] == [
        ("paints", False), ("mends", True), ("sketch", True),
    ]  # fmt: skip


# -- Sent twice -----------------------------------------------------------------------------------

KEY = {"Idempotency-Key": "k-1"}


def test_the_same_request_is_painted_once_and_answered_twice(place: Exhibition):
    first = place.send(GENERATE, json=PROMPT, headers=KEY)
    again = place.send(GENERATE, json={**PROMPT, "n": None}, headers=KEY)
    assert len(place.gallery.drafts) == 1
    assert again.json()["id"] == first.json()["id"]
    hashes = [answer.json()["formats"]["png"]["hash"] for answer in (first, again)]
    assert hashes[0] == hashes[1]
    for header in ("x-limner-warnings", "x-depicta-job-id", "x-limner-seed"):
        assert again.headers[header] == first.headers[header]
    assert "server-timing" not in again.headers  # nothing was painted for it
    place.send(GENERATE, json=PROMPT, headers={"Idempotency-Key": "k-2"})
    place.send(GENERATE, json=PROMPT)
    assert len(place.gallery.drafts) == 3


def test_another_request_under_the_same_key_is_refused(place: Exhibition):
    place.send(GENERATE, json=PROMPT, headers=KEY)
    place.send(EDIT, files={"image": PNG}, data=PROMPT, headers={"Idempotency-Key": "form"})
    again = place.send(EDIT, files={"image": PNG}, data=PROMPT, headers={"Idempotency-Key": "form"})
    assert again.status_code == 200  # though its boundary is another
    other = place.send(
        EDIT, files={"image": JPEG}, data=PROMPT, headers={"Idempotency-Key": "form"}
    )
    for answer in (
        place.send(GENERATE, json={**PROMPT, "seed": 1}, headers=KEY),
        place.send(GENERATE, json={**PROMPT, "bogus": 1}, headers=KEY),
        place.send(EDIT, json=BODIES[EDIT], headers=KEY),
        other,
    ):
        assert "Idempotency-Key" in told(answer, 422, "validation_error")


def test_what_failed_is_tried_again(place: Exhibition):
    place.gallery.raises = errors.Overloaded("later")
    told(place.send(GENERATE, json=PROMPT, headers=KEY), 503, "overloaded")
    place.gallery.raises = None
    assert place.send(GENERATE, json=PROMPT, headers=KEY).status_code == 200


def test_what_is_no_longer_kept_is_painted_again(place: Exhibition):
    first = place.send(GENERATE, json=PROMPT, headers=KEY).json()
    place.front.artifacts._clock = lambda: time.time() + 25 * 3600
    again = place.send(GENERATE, json=PROMPT, headers=KEY)
    assert again.json()["id"] != first["id"]
    assert len(place.gallery.drafts) == 2
    assert place.file(again.json()["image_url"]) == b"png 0"
    third = place.send(GENERATE, json=PROMPT, headers=KEY)
    assert third.json()["id"] == again.json()["id"]


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "\u00e4".encode().decode("latin-1")])
def test_keys_that_are_none(place: Exhibition, key: str):
    headers = [(b"idempotency-key", key.encode("latin-1"))]
    told(place.send(GENERATE, json=PROMPT, headers=headers), 422, "validation_error")


def test_while_it_is_painted_the_same_request_waits_for_its_turn(place: Exhibition):
    async def run() -> None:
        place.gallery.wait = asyncio.Event()
        async with place.client() as client:
            first = asyncio.create_task(client.post(GENERATE, json=PROMPT, headers=KEY))
            await until(lambda: place.gallery.drafts)
            again = await client.post(GENERATE, json=PROMPT, headers=KEY)
            told(again, 409, "request_in_flight")
            assert again.headers["retry-after"]
            other = await client.post(GENERATE, json={"prompt": "x"}, headers=KEY)
            told(other, 422, "validation_error")
            [job] = (await client.get("/jobs")).json()["generations"]
            assert job["status"] == "processing"
            place.gallery.wait.set()
            assert (await first).status_code == 200
            again = await client.post(GENERATE, json=PROMPT, headers=KEY)
            assert again.json()["id"] == job["job_id"]

    asyncio.run(run())


def test_a_client_that_leaves_does_not_end_its_job(place: Exhibition):
    """At the edge: the receive channel says that the client is gone."""

    async def run() -> None:
        place.gallery.wait = asyncio.Event()
        gone = asyncio.Event()
        body = json.dumps(PROMPT).encode()
        said: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if said:
                return said.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        headers = [(b"content-type", b"application/json"), (b"idempotency-key", b"left")]
        scope = {
            "type": "http", "method": "POST", "path": GENERATE, "raw_path": GENERATE.encode(),
            "query_string": b"", "headers": headers, "http_version": "1.1", "scheme": "http",
            "server": ("test", 80), "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        first = asyncio.create_task(place.app(scope, receive, send))
        await until(lambda: place.gallery.drafts)
        gone.set()
        await first
        async with place.client() as client:
            headers = {"Idempotency-Key": "left"}
            told(
                await client.post(GENERATE, json=PROMPT, headers=headers), 409, "request_in_flight"
            )
            place.gallery.wait.set()
            await until(lambda: all(job.over for job in place.gallery.store._known.values()))
            [job] = (await client.get("/jobs")).json()["generations"]
            assert job["status"] == "completed"
            again = await client.post(GENERATE, json=PROMPT, headers=headers)
            assert again.status_code == 200
        assert len(place.gallery.drafts) == 1

    asyncio.run(run())
