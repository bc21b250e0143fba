"""What every request passes first: an id, a log line, and the guard against foreign pages.

Plain ASGI. Knows nothing of routes or dialects; never sees a body, so never logs a prompt.
"""

import ipaddress
import json
import logging
import re
import secrets
import time
from collections.abc import Collection, Iterable, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PROBES = frozenset({"/healthz", "/readyz"})  # asked by address, not by name; they tell no secrets
EXPOSED = (
    *("X-Limner-Warnings", "X-Limner-Seed", "X-Limner-Id", "X-Depicta-Job-Id", "X-Request-Id"),
    "Server-Timing",
    *("x-venice-model-id", "x-venice-model-name", "x-venice-timestamp"),
    *("x-venice-is-blurred", "x-venice-is-content-violation"),
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+?)\.?(:[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@]+)", re.IGNORECASE)


def request_id(scope: Scope) -> str:
    """The id given by `Journal`, or "-"."""
    return str(scope.get("state", {}).get("request_id", "-"))


class Journal:
    """Gives each request an id (the client's `X-Request-Id` if it is a decent one), answers it
    as `X-Request-Id`, and writes one line: id, method, path, status, milliseconds."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        theirs = _header(scope, b"x-request-id")
        given = theirs[0] if len(theirs) == 1 and _ID.fullmatch(theirs[0]) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = given
        status = 0  # stays so if nothing was answered

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                head = [*message.get("headers", ()), (b"x-request-id", given.encode())]
                message = {**message, "headers": head}
            await send(message)

        try:
            await self.app(scope, receive, stamped)
        finally:
            took = (time.perf_counter() - started) * 1000
            log.info("%s %s %s %d %.0f ms", given, scope["method"], _path(scope), status, took)


def _path(scope: Scope) -> str:
    """The path as it came (still escaped, without the query), fit for one line of a log."""
    path = (scope.get("raw_path") or scope["path"].encode("utf-8", "replace"))[:200]
    return "".join(chr(byte) if 32 < byte < 127 else "?" for byte in path.split(b"?")[0])


class Guard:
    """Refuses (403) requests whose Host is not ours, as after DNS rebinding, and requests that a
    foreign page makes a browser send. Ports are ignored; every address is ours.

    Args:
        hosts: further names or addresses under which the server is reached; "*" means any.
        origins: origins of pages that may call us besides our own, such as `https://app.example`.
        open_paths: paths that are not guarded.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        open_paths: Collection[str] = PROBES,
    ) -> None:
        self.app = app
        self._hosts = {host.lower().strip("[]").rstrip(".") for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self.app(scope, receive, send)
            return
        complaint = self.complaint(_header(scope, b"host"), _header(scope, b"origin"))
        if complaint is None:
            await self.app(scope, receive, send)
        else:
            await _forbid(send, complaint)

    def complaint(self, hosts: list[str], origins: list[str]) -> str | None:
        """Why a request with these headers is refused; None if it is not."""
        if not hosts:
            return "the Host header is missing"
        host = _name(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_ours(host):
            return "this Host is not allowed; see allowed_hosts in the configuration"
        if not origins:
            return None
        if len(origins) == 1 and self._is_welcome(origins[0], host):
            return None
        return "this Origin is not allowed; see allowed_origins in the configuration"

    def _is_ours(self, name: str) -> bool:
        # A page can make its own name lead to us, but not an address: those are always ours.
        return name in self._hosts or "*" in self._hosts or _is_address(name)

    def _is_welcome(self, origin: str, host: str) -> bool:
        if origin.lower() in self._origins:
            return True
        match = _ORIGIN.fullmatch(origin)
        name = _name(match["host"]) if match else None
        # Under "*" any Host is ours, which must not make any page ours.
        return name is not None and (name == host or name in self._hosts or _is_loopback(name))


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, telling browsers that pages of exactly these origins may read its answers.

    Belongs inside the guard, which refuses what browsers would merely not show to the page.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=EXPOSED,
    )


def _name(host: str) -> str | None:
    """The name in a Host header, without port, brackets and final dot; None if malformed."""
    match = _NAME.fullmatch(host)
    return match["name"].lower().strip("[]") if match else None


def _is_address(name: str) -> bool:
    try:
        return name == "localhost" or not ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _header(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


async def _forbid(send: Send, message: str) -> None:
    body = json.dumps({"error": {"code": "forbidden", "message": message}}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 403, "headers": head})
    await send({"type": "http.response.body", "body": body})
