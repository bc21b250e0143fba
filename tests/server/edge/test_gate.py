"""Who is let in, and what is written down about it."""

import asyncio
import logging
import re

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.edge import gate

Headers = list[tuple[bytes, bytes]]


def ask(
    app: object, path: str = "/x", headers: Headers | None = None, **more: object
) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers or [], **more}
    asyncio.run(app(scope, receive, send))
    return sent


async def teapot(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b""})


HOSTS = {
    "localhost": True,
    "LOCALHOST:8484": True,
    "localhost.": True,
    "localhost.:8484": True,
    "127.0.0.1": True,
    "127.0.0.1:1": True,
    "127.9.9.9:8484": True,
    "[::1]": True,
    "[::1]:8484": True,
    "[0:0:0:0:0:0:0:1]:80": True,
    "paint.example": True,
    "Paint.Example:443": True,
    "[fd00::7]:8484": True,
    "10.0.0.7": True,
    "[::2]": True,
    "": False,
    " ": False,
    "evil.example": False,
    "localhost.evil.example": False,
    "evil-localhost": False,
    "paint.example.evil": False,
    "127.0.0.1.evil.example": False,
    "127.0.0.1@evil.example": False,
    "evil.example:127.0.0.1": False,
    "localhost:80:80": False,
    "localhost:99999999": False,
    "localhost/evil": False,
    "127.1": False,
    "2130706433": False,
    "0x7f000001": False,
    "0.0.0.0": False,
    "[::1": False,
    "::1": False,
    "[::1]evil": False,
    "[::ffff:7f00:1]x": False,
    "loc\u00e4lhost": False,
    "localhost\n": False,
}


@pytest.mark.parametrize(("host", "allowed"), HOSTS.items())
def test_hosts(host: str, allowed: bool):
    app = gate.Guard(teapot, hosts=["paint.example"])
    status = ask(app, headers=[(b"host", host.encode("latin-1"))])[0]["status"]
    assert status == (418 if allowed else 403)


ORIGINS = {
    "http://localhost": True,
    "http://localhost:3000": True,
    "https://127.0.0.1:8484": True,
    "http://[::1]:8484": True,
    "http://paint.example": True,
    "https://PAINT.example:444": True,
    "https://app.example": True,
    "https://app.example:8443": False,
    "http://app.example": False,
    "null": False,
    "": False,
    "*": False,
    "https://evil.example": False,
    "https://localhost.evil.example": False,
    "https://localhost@evil.example": False,
    "https://evil.example/localhost": False,
    "https://evil.example#localhost": False,
    "https://evil.example?localhost": False,
    "chrome-extension://localhost": False,
    "file://": False,
    "localhost": False,
    "http://localhost https://evil.example": False,
}


@pytest.mark.parametrize(("origin", "allowed"), ORIGINS.items())
def test_origins(origin: str, allowed: bool):
    app = gate.Guard(teapot, hosts=["paint.example"], origins=["https://app.example/"])
    headers = [(b"host", b"localhost:8484"), (b"origin", origin.encode())]
    assert ask(app, headers=headers)[0]["status"] == (418 if allowed else 403)


def test_any_host_does_not_mean_any_page():
    app = gate.Guard(teapot, hosts=["*"])
    host = (b"host", b"gpu7.lan:8484")
    assert ask(app, headers=[host])[0]["status"] == 418
    assert ask(app, headers=[host, (b"origin", b"http://gpu7.lan:8484")])[0]["status"] == 418
    assert ask(app, headers=[host, (b"origin", b"http://evil.example")])[0]["status"] == 403


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"localhost"), (b"host", b"localhost")],
        [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://x")],
    ],
)
def test_one_host_and_one_origin(headers: Headers):
    assert ask(gate.Guard(teapot), headers=headers)[0]["status"] == 403


def test_a_missing_host_is_called_missing():
    missing = ask(gate.Guard(teapot))[1]["body"]
    assert b"the Host header is missing" in missing
    twice = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert b"this Host is not allowed" in ask(gate.Guard(teapot), headers=twice)[1]["body"]


def test_listed_pages_may_send_json_and_read_the_answer():
    app = gate.Guard(gate.cors(teapot, ["https://app.example"]), origins=["https://app.example"])
    host, origin = (b"host", b"localhost:8484"), (b"origin", b"https://app.example")
    wish = [
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"content-type,x-request-id"),
    ]
    start = ask(app, headers=[host, origin, *wish], method="OPTIONS")[0]
    told = dict(start["headers"])
    assert start["status"] == 200
    assert told[b"access-control-allow-origin"] == b"https://app.example"
    assert told[b"access-control-allow-methods"] == b"GET, POST"
    assert told[b"access-control-allow-headers"] == b"content-type,x-request-id"
    start = ask(app, headers=[host, origin])[0]
    told = dict(start["headers"])
    assert start["status"] == 418
    assert told[b"access-control-allow-origin"] == b"https://app.example"
    assert told[b"access-control-expose-headers"] == (
        b"X-Limner-Warnings, X-Limner-Seed, X-Limner-Id, X-Depicta-Job-Id, X-Request-Id, "
        b"Server-Timing, "
        b"x-venice-model-id, x-venice-model-name, x-venice-timestamp, "
        b"x-venice-is-blurred, x-venice-is-content-violation"
    )


def test_other_pages_and_an_empty_list_get_no_such_headers():
    app = gate.Guard(gate.cors(teapot, ["https://app.example"]), origins=["https://app.example"])
    host = (b"host", b"localhost")
    for origin in (b"http://localhost:3000", b"https://evil.example"):
        start = ask(app, headers=[host, (b"origin", origin)])[0]
        assert b"access-control-allow-origin" not in dict(start["headers"])
    assert gate.cors(teapot, ()) is teapot
    assert ask(app, type="lifespan")[0]["status"] == 418


def test_a_refusal_is_json_and_echoes_nothing():
    start, body = ask(gate.Guard(teapot), headers=[(b"host", b"evil.example")])
    assert (b"content-type", b"application/json") in start["headers"]
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    assert body["body"].startswith(b'{"error": {"code": "forbidden", "message": "')
    assert b"evil" not in body["body"]


def test_probes_are_open_and_other_traffic_passes():
    headers = [(b"host", b"evil.example")]
    assert ask(gate.Guard(teapot), "/healthz", headers)[0]["status"] == 418
    assert ask(gate.Guard(teapot), "/healthz/x", headers)[0]["status"] == 403
    assert ask(gate.Guard(teapot), type="lifespan")[0]["status"] == 418
    assert ask(gate.Journal(teapot), type="lifespan")[0]["headers"] == [(b"a", b"b")]


def given_id(headers: Headers) -> str:
    start = ask(gate.Journal(teapot), headers=headers)[0]
    assert start["headers"][0] == (b"a", b"b")
    name, value = start["headers"][1]
    assert name == b"x-request-id"
    return value.decode()


def test_a_decent_id_is_kept():
    assert given_id([(b"X-Request-Id", b"Abc_9-z")]) == "Abc_9-z"


@pytest.mark.parametrize("theirs", [b"", b"a b", b"x" * 65, b"a\nb", b"a\n", b"\xe4", b"a;b"])
def test_any_other_id_is_replaced(theirs: bytes):
    assert re.fullmatch("[0-9a-f]{16}", given_id([(b"x-request-id", theirs)]))
    assert given_id([]) != given_id([])


def test_one_line_per_request(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "server.edge.gate"):
        raw = b"/image/gen%0Aerate?prompt=secret"
        ask(gate.Journal(teapot), headers=[(b"x-request-id", b"r1")], raw_path=raw)
    assert len(caplog.messages) == 1
    assert re.fullmatch(r"r1 POST /image/gen%0Aerate 418 \d+ ms", caplog.messages[0])


def test_a_path_cannot_write_a_second_line(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "server.edge.gate"):
        ask(gate.Journal(teapot), path="/a\nfake \u00e4" + "x" * 999)
    assert "\n" not in caplog.messages[0]
    assert len(caplog.messages[0]) < 260


def test_the_line_is_written_even_if_the_app_breaks(caplog: pytest.LogCaptureFixture):
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        scope_id = gate.request_id(scope)
        raise RuntimeError(scope_id)

    with caplog.at_level(logging.INFO, "server.edge.gate"), pytest.raises(RuntimeError, match="r2"):
        ask(gate.Journal(broken), headers=[(b"x-request-id", b"r2")])
    assert " 0 " in caplog.messages[0]
    assert gate.request_id({}) == "-"
