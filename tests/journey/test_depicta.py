"""What Depicta's own command line client does, said by hand to the real server; and its jobs."""

import hashlib
import io
import json
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

PROMPT = "a red circle on a blue background"
BEARER = {"Authorization": "Bearer dpct_x"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def sketch(serving, place: Path) -> Iterator[Any]:
    with serving(environment={"LIMNER_SERVER__DATA_DIR": str(place)}) as server:
        yield server


@pytest.fixture(scope="module")
def toy(serving, toy_config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    place = {"LIMNER_SERVER__DATA_DIR": str(tmp_path_factory.mktemp("toy"))}
    with serving("--config", str(toy_config), environment=place) as server:
        yield server


@pytest.fixture
def toy_at(serving, toy_config, tmp_path: Path) -> Any:
    """Start a server with the toy and the same data each time; `database` is its own by default."""

    def start(**more: str) -> Any:
        place = {"LIMNER_SERVER__DATA_DIR": str(tmp_path)} | more
        return serving("--config", str(toy_config), environment=place)

    return start


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def downloaded(variant: dict[str, Any]) -> np.ndarray:
    """The file behind a link, fetched without a key, after it was held against what was said."""
    answer = httpx2.get(variant["url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{variant['format']}"
    assert len(answer.content) == variant["size_bytes"]
    assert hashlib.sha256(answer.content).hexdigest() == variant["hash"]
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def settled(client: httpx2.Client, name: str) -> dict[str, Any]:
    """The job once it is over."""
    deadline = time.monotonic() + 20
    while (job := client.get(f"/v1/jobs/{name}").json())["status"] in ("pending", "processing"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def events(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    found = re.findall(r"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n", text)
    return [(int(number), name, json.loads(facts)) for number, name, facts in found]


def test_upload_edit_download(sketch) -> None:
    """The calls of `depicta edit image FILE PROMPT --format webp` and of what one does next."""
    base = np.full((128, 128, 3), (30, 60, 200), np.uint8)
    with sketch.client(headers=BEARER) as client:
        uploaded = client.post("/v1/upload", files={"image": ("in.png", png(base))})
        assert uploaded.status_code == 200, uploaded.text
        body = {"input_image_url": uploaded.json()["upload_url"], "prompt": PROMPT, "seed": 7}
        answer = client.post("/v1/edit/image", json=body)
        assert answer.status_code == 200, answer.text
        made = answer.json()
        shown = {kind: downloaded(variant) for kind, variant in made["formats"].items()}
        assert shown["png"].shape == (128, 128, 3)
        for kind in ("jpeg", "webp"):  # of the same picture
            assert np.abs(shown[kind] - shown["png"]).mean() < 6
        assert made["image_hash"] == made["formats"]["png"]["hash"]
        name = answer.headers["x-depicta-job-id"]
        job = client.get(f"/v1/jobs/{name}").json()
        assert (job["job_id"], job["status"]) == (name, "completed") == (made["id"], "completed")
        downloaded(job["formats"]["webp"])
        [listed] = client.get("/v1/jobs").json()["generations"]
        assert listed["job_id"] == name
        assert client.get("/v1/account/profile").json()["user"]["balance_eur"] == "0.000000"
        models = client.get("/v1/models", headers={"X-Limner-Dialect": "depicta"})
        assert models.json()["models"][0]["id"] == "sketch"
        form = {"prompt": PROMPT, "seed": "7"}
        again = client.post("/v1/edit/image", data=form, files={"image": png(base)})
        assert again.json()["image_hash"] == made["image_hash"]
    plain = {"model": "sketch", "prompt": PROMPT, "seed": 7, "output_type": "file"}
    file = sketch.post("/api/v1/image/edit", images=[made["image_url"]], strength=0.1, **plain)
    assert file.status_code == 200, file.text  # what one dialect made, another one takes


def test_no_model_combines_so_many(sketch) -> None:
    answer = sketch.post(
        "/v1/combine/image", prompt="both", input_image_urls=["http://a", "http://b"]
    )
    assert answer.status_code == 422
    assert "sketch takes 1" in answer.json()["details"]["input_image_urls"]


def test_every_dialect_leaves_rows(sketch, place: Path) -> None:
    answer = sketch.post("/api/v1/image/generate", model="sketch", prompt="x", steps=1, seed=3)
    name = answer.json()["id"]
    deadline = time.monotonic() + 5
    while not (row := found(place, name)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert row == ("aimo", "completed", "[3]", 1, None)
    listed = httpx2.get(f"{sketch.url}/v1/jobs").json()["generations"]
    assert name not in [job["job_id"].replace("-", "") for job in listed]
    told = httpx2.get(f"{sketch.url}/jobs/{name}/events")
    assert [each[1] for each in events(told.text)] == [
        "pending", "progress", "painted", "completed",
    ]  # fmt: skip


def found(place: Path, name: str) -> tuple[Any, ...] | None:
    with sqlite3.connect(place / "limner.db") as connection:
        rows = connection.execute(
            "SELECT dialect, state, seeds, steps, prompt FROM jobs "
            "WHERE id = ? AND state = 'completed'",
            (name,),
        ).fetchall()
    connection.close()
    return rows[0] if rows else None


def test_what_was_answered_outlives_a_killed_server_and_what_was_not_has_failed(
    toy_at, tmp_path: Path
) -> None:
    headers, ask = {"Idempotency-Key": "k-1"}, {"prompt": "an owl"}
    names: set[str] = set()
    with toy_at() as server, server.client(headers=headers) as client:
        for _ in range(2):
            answer = client.post("/v1/generate/image", json=ask)
            assert answer.status_code == 200, answer.text
            names.add(answer.json()["id"])
        other = client.post("/v1/generate/image", json={"prompt": "a cat"})
        assert other.status_code == 422
        body = {"prompt": "a slow owl", "steps": 200}
        with pytest.raises(httpx2.ReadTimeout), server.client() as impatient:
            impatient.post("/v1/generate/image", json=body, timeout=1)
        server.stop(signal.SIGKILL)
    with toy_at() as server, server.client(headers=headers) as client:
        answer = client.post("/v1/generate/image", json=ask)
        names.add(answer.json()["id"])
        downloaded(answer.json()["formats"]["jpeg"])
        killed, answered = client.get("/v1/jobs").json()["generations"]
        assert (killed["status"], killed["error"]) == ("failed", "interrupted")
        assert names == {answered["job_id"]}
        with pytest.raises(httpx2.ReadTimeout), server.client() as impatient:
            impatient.post("/v1/generate/image", json=body | {"steps": 20}, timeout=0.4)
        assert server.stop() == 0  # but first that is painted, though nobody waits for it
    with sqlite3.connect(tmp_path / "limner.db") as connection:
        states = connection.execute("SELECT state FROM jobs ORDER BY created").fetchall()
    connection.close()
    assert [state for (state,) in states] == ["completed", "failed", "completed"]


def test_a_job_goes_on_without_its_client_and_is_followed_by_another(toy) -> None:
    steps = 100  # five seconds: long enough for all that follows on a busy machine
    body = {"prompt": "a slow owl", "steps": steps}
    headers = {"Idempotency-Key": "left"}
    with toy.client() as client:
        with pytest.raises(httpx2.ReadTimeout), toy.client() as impatient:
            impatient.post("/v1/generate/image", json=body, headers=headers, timeout=1.0)
        busy = client.post("/v1/generate/image", json=body, headers=headers)
        assert (busy.status_code, busy.json()["error"]) == (409, "request_in_flight")
        job = client.get("/v1/jobs?limit=1").json()["generations"][0]
        assert job["status"] == "processing"
        told: list[str] = []

        def follow() -> None:
            told.append(client.get(f"/jobs/{job['job_id']}/events").text)

        follower = threading.Thread(target=follow)
        follower.start()
        done = settled(client, job["job_id"])
        follower.join(10)
        assert done["status"] == "completed"
        downloaded(done["formats"]["png"])
        heard = events(told[0])
        assert [name for _, name, _ in heard] == [
            "pending", *["progress"] * steps, "painted", "completed",
        ]  # fmt: skip
        rest = client.get(f"/jobs/{job['job_id']}/events", headers={"Last-Event-ID": f"{steps}"})
        assert events(rest.text) == heard[steps:]
        answer = client.post("/v1/generate/image", json=body, headers=headers)
        assert answer.json()["id"] == job["job_id"]
        assert "499" in toy.log


def test_a_worker_that_dies_is_a_502_and_a_job_that_failed(toy) -> None:
    with toy.client() as client:
        answer = client.post("/v1/generate/image", json={"prompt": "crash"})
        assert (answer.status_code, answer.json()["error"]) == (502, "worker_died")
        job = settled(client, answer.headers["x-depicta-job-id"])
        assert (job["status"], job["error"]) == ("failed", "worker_died")


def test_without_a_database_pictures_are_painted_and_it_is_told(toy_at, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database at all" * 999)
    where = {"LIMNER_SERVER__DATABASE": f"sqlite:///{broken}"}
    with toy_at(**where) as server, server.client() as client:
        answer = client.post("/v1/generate/image", json={"prompt": "an owl"})
        assert answer.status_code == 200
        downloaded(answer.json()["formats"]["png"])
        name = answer.json()["id"]
        assert client.get(f"/v1/jobs/{name}").json()["status"] == "completed"
        assert client.get("/v1/jobs").status_code == 503
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "not being recorded" in ready.json()["reasons"][0]
        server.wait_for_log("file is not a database")
        assert server.stop() == 0


def test_uploads_that_are_no_images_are_refused(toy) -> None:
    truncated = png(np.zeros((64, 64, 3), np.uint8))[:-30]
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    with toy.client() as client:
        for data in (truncated, svg, b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(99)):
            answer = client.post("/v1/upload", files={"image": data})
            assert (answer.status_code, answer.json()["error"]) == (422, "validation_error")
            assert answer.json()["details"]["image"]
        answer = client.post("/v1/upload", files={"image": bytes(50 * 2**20 + 1)})
        assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")
