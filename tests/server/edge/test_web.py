"""Reading bodies, strict JSON, refusals as answers, the warnings header."""

import asyncio
import json
import logging
import threading
import tracemalloc
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from server.edge import fields, web
from server.edge.delivery import Gone
from server.errors import BadRequest, Overloaded
from server.jobs.intake import Notice

LIMIT = 10_000


class Thing(fields.Shape):
    name: Annotated[str, Field(max_length=20)]
    colour: Literal["red", "blue"] | None = None
    count: Annotated[int, Field(ge=1, le=9), fields.Integral] | None = None
    parts: Annotated[list[str], Field(min_length=1, max_length=4)] | None = None


def build() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    web.install(app, web.plain)

    @app.post("/things")
    async def things(request: Request) -> Response:
        thing = await web.read(request, Thing, LIMIT)
        return Response(thing.name)

    @app.post("/broken")
    async def broken(request: Request) -> Response:
        raise RuntimeError("the secret is 42")

    @app.post("/busy")
    async def busy(request: Request) -> Response:
        raise Overloaded("too many wait", retry_after=7)

    @app.post("/gone")
    async def gone(request: Request) -> Response:
        raise Gone

    return app


def send(method: str, path: str, **how: object) -> httpx2.Response:
    async def talk() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=build())
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **how)

    return asyncio.run(talk())


def told(answer: httpx2.Response, status: int, code: str) -> str:
    """The message of a refusal, after checking everything that all refusals have in common."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) <= 2048
    assert answer.content.isascii()
    error = answer.json()["error"]
    assert error["code"] == code
    return error["message"]


def test_reads_a_shape():
    assert send("POST", "/things", json={"name": "cup"}).text == "cup"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/x.y+json"])
def test_accepts_kinds_of_json(kind: str):
    headers = {"Content-Type": kind}
    assert send("POST", "/things", content=b'{"name":"cup"}', headers=headers).text == "cup"


def test_accepts_a_missing_content_type():
    assert send("POST", "/things", content=b'{"name":"cup"}').text == "cup"


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "json", ""])
def test_refuses_other_kinds(kind: str):
    headers = {"Content-Type": kind}
    answer = send("POST", "/things", content=b'{"name":"cup"}', headers=headers)
    assert "application/json" in told(answer, 415, "unsupported_media_type")


def test_refuses_compressed_bodies():
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = send("POST", "/things", content=b"\x1f\x8b", headers=headers)
    assert "Content-Encoding" in told(answer, 415, "unsupported_media_type")


def test_refuses_a_declared_length_without_reading():
    async def talk() -> None:
        async def receive() -> dict[str, object]:
            raise AssertionError("the body was read")

        scope = {"type": "http", "headers": [(b"content-length", b"10001")]}
        with pytest.raises(web.TooLarge):
            await web.body(Request(scope, receive), LIMIT)

    asyncio.run(talk())


def test_holds_no_more_than_the_limit_of_a_body_of_unknown_length():
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield b" " * 1000

    answer = send("POST", "/things", content=endless())
    assert "10000 bytes" in told(answer, 413, "payload_too_large")
    assert taken <= LIMIT + 2000


BROKEN = {
    b"": "truncated",
    b"{": "truncated",
    b"{'name': 1}": "keys must be strings",
    b'{"name": NaN}': 'near "name": NaN and Infinity are not JSON',
    b'{"count": Infinity}': 'near "count": NaN and Infinity are not JSON',
    b'{"name": "x", "count": -Infinity}': 'near "count": NaN and Infinity are not JSON',
    b'{"name": "a\\"b\\": c", "count": nul}': 'near "count": invalid character',
    b'{"count": 1e999}': "out of range",
    b'{"count": ' + b"9" * 5000 + b"}": "out of range",
    b'{"name": "\\ud800abcdef"}': 'near "name": a string holds half of a surrogate pair',
    b'{"name": "\\udc00abcdef"}': 'near "name": a string holds half of a surrogate pair',
    b'{"name": "a\\ud83c"}': 'near "name": a string holds half of a surrogate pair',
    b'{"name": "a\\ud83c\\n"}': 'near "name": a string holds half of a surrogate pair',
    b'{"name": "a\\ud83c\\ud': "truncated",
    b'{"name": "x", "parts": ["\xff"]}': 'near "parts": a string is not UTF-8',
    b'{"name": "\\n\xff"}': "a string is not UTF-8",
    b"\xef\xbb\xbf{}": "invalid character",
    b"[" * 10_000: "deep",
    b"[" * 100_000: "too many values",
    b'{"name": 1}}': "trailing",
    b"[1]": "must be a JSON object",
    b'"name"': "must be a JSON object",
    b"null": "must be a JSON object",
    b"{}": "name: is required",
    b'{"name": 5}': "name: must be a valid string",
    b'{"name": null}': "name: must be a valid string",
    b'{"name": "x", "colour": "green"}': "colour: must be 'red' or 'blue'",
    b'{"name": "x", "count": 10}': "count: must be less than or equal to 9",
    b'{"name": "x", "count": true}': "count: must be a valid integer",
    b'{"name": "x", "count": "1"}': "count: must be a valid integer",
    b'{"name": "x", "count": 1.5}': "count: must be a valid integer",
    b'{"name": "x", "count": ' + b"9" * 4000 + b"}": "count: must be less than",
    b'{"name": "x", "parts": []}': "parts[0]: is required",
    b'{"name": "x", "parts": ["a", 1]}': "parts[1]: must be a valid string",
    b'{"name": "x", "parts": {}}': "parts: must be a valid list",
}


@pytest.mark.parametrize(("text", "says"), BROKEN.items(), ids=[*BROKEN.values()])
def test_names_what_is_wrong(text: bytes, says: str):
    with pytest.raises(BadRequest) as refused:
        web.parse(text, Thing)
    assert says in refused.value.message
    assert "$" not in refused.value.message
    assert len(json.dumps(refused.value.message)) <= 502


def test_names_a_few_of_many_mistakes_and_echoes_nothing():
    parts = json.dumps({"name": "x" * 5000, "colour": "SECRET" * 99, "count": 99, "parts": [1]})
    with pytest.raises(BadRequest) as refused:
        web.parse(parts.encode(), Thing)
    message = refused.value.message
    assert refused.value.param == "name"
    assert message.endswith("and 1 more")
    assert "xxx" not in message
    assert "SECRET" not in message


# At the largest body these would be 20 million values; 2 MiB of them tell the same.
CROWDS = {
    "lists": b'{"name":"x","k":[' + b"[]," * 700_000 + b"[]]}",
    "keys": b'{"name":"x"' + b"".join(b',"%d":1' % i for i in range(200_000)) + b"}",
    "strings": b'{"name":"x","k":[' + b'"",' * 700_000 + b'""]}',
    "after a long string": b'{"name":"'
    + b'a\\\\\\",' * 300_000
    + b'","k":['
    + b"0," * 30_000
    + b"0]}",
    "after escapes": b'{"name":"' + b"\\\\" * 1_048_571 + b'","k":[' + b"0," * 30_000 + b"0]}",
}


@pytest.mark.parametrize("text", CROWDS.values(), ids=CROWDS)
def test_too_many_values_are_refused_before_they_are_objects(text: bytes):
    tracemalloc.start()
    with pytest.raises(BadRequest, match="the body has too many values"):
        web.parse(text, Thing)
    assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("shift", range(4))
def test_marks_inside_strings_are_no_values(shift: int):
    words = "x" * shift + '\\ \\" [{,: ' * 200_000  # over several chunks, at every offset
    body = json.dumps({"name": "x", "words": words}).encode()
    assert len(body) > 2 * web.CHUNK
    assert web.parse(body, Thing).model_extra == {"words": words}


@given(st.recursive(st.text(st.sampled_from('a"\\,:[{é\n')), st.lists, max_leaves=20))
def test_values_are_counted_as_json_has_them(value: object):
    def marks(value: object) -> int:
        if not isinstance(value, list):
            return 0
        return 1 + max(0, len(value) - 1) + sum(marks(each) for each in value)

    def crowded(most: int) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(web, "MAX_VALUES", most)
            patch.setattr(web, "CHUNK", 3)
            return web.crowded(json.dumps(value).encode())

    assert not crowded(marks(value))
    assert crowded(marks(value) - 1)


def test_a_large_body_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch):
    threads: list[str] = []
    parse = web.parse

    def noted(text: bytes | bytearray, shape: type[Thing]) -> Thing:
        threads.append(threading.current_thread().name)
        return parse(text, shape)

    monkeypatch.setattr(web, "parse", noted)

    async def take(text: bytes) -> Thing:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": text, "more_body": False}

        return await web.read(Request({"type": "http", "headers": []}, receive), Thing, 2**22)

    assert asyncio.run(take(b'{"name": "small"}')).name == "small"
    assert asyncio.run(take(b'{"name": "large"' + b" " * 2**21 + b"}")).name == "large"
    assert [name == "MainThread" for name in threads] == [True, False]


@pytest.mark.parametrize("length", [None, "500"])
def test_a_body_that_trickles_in_is_given_up(monkeypatch: pytest.MonkeyPatch, length: str | None):
    monkeypatch.setattr(web, "BODY_SECONDS", 0.05)

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    headers = {"Content-Length": length} if length else {}
    answer = send("POST", "/things", content=trickle(), headers=headers)
    assert "in time" in told(answer, 408, "request_timeout")
    assert answer.headers["connection"] == "close"


def test_whole_numbers_may_be_written_as_floats():
    assert web.parse(b'{"name": "x", "count": 2.0}', Thing).count == 2
    assert web.parse(b'{"name": "x", "count": 2e0}', Thing).count == 2


@given(st.text(), st.integers(50, 500))
def test_clipped_is_a_beginning_within_its_limit(text: str, limit: int):
    short = web.clipped(text, limit)
    assert text.startswith(short)
    assert len(json.dumps(short)) - 2 <= limit
    if len(json.dumps(text)) - 2 <= limit:
        assert short == text


def test_errors_of_the_framework_take_the_same_shape():
    assert "/nowhere" in told(send("GET", "/nowhere"), 404, "not_found")
    answer = send("PUT", "/things")
    assert "PUT /things" in told(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    assert told(send("POST", "/things/", json={}), 404, "not_found")


def test_a_long_path_is_not_echoed():
    assert len(told(send("GET", "/" + "ä" * 900), 404, "not_found")) <= 80


def test_a_bug_is_logged_and_not_told(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "server.edge.web"):
        message = told(send("POST", "/broken"), 500, "internal_error")
    assert "secret" not in message
    assert "the secret is 42" in caplog.text


def test_retry_after():
    answer = send("POST", "/busy")
    assert told(answer, 503, "overloaded") == "too many wait"
    assert answer.headers["retry-after"] == "7"


def test_nobody_to_answer_is_a_499_for_the_log():
    assert send("POST", "/gone").status_code == 499


def test_the_field_is_named_once():
    assert web.message_of(BadRequest("bad n", param="n"), "n") == "bad n"
    assert web.message_of(BadRequest("too many", param="n"), "n") == "n: too many"
    assert web.message_of(BadRequest("too many"), None) == "too many"


@given(st.lists(st.tuples(st.text(), st.text()), max_size=60))
def test_the_warnings_header_fits_and_counts(notices: list[tuple[str, str]]):
    headers = web.warning_header([Notice(*notice) for notice in notices])
    if not notices:
        assert headers == {}
        return
    text = headers[web.WARNINGS]
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= web.HEADER_BYTES
    entries = json.loads(text)
    if len(entries) < len(notices) or "more" in entries[-1]["message"]:
        left_out = int(entries[-1]["message"].split()[1])
        assert len(entries) - 1 + left_out == len(notices)


def test_a_huge_warning_still_leaves_a_header():
    notices = [Notice("n", "\0" * 5000)] * 30
    entries = json.loads(web.warning_header(notices)[web.WARNINGS])
    assert entries[0]["param"] == "n"
    assert entries[-1]["message"] == f"and {30 - len(entries) + 1} more"
