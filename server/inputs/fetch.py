"""Input images by URL, fetched so that no URL reaches what only this machine may reach.

An address is checked where it is dialled, so that redirects and names that change their answer
are covered by construction. Knows nothing of images, nor of who asks.
"""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from socket import SOCK_STREAM, getaddrinfo
from types import TracebackType
from typing import Self, TypeAlias, cast

import httpcore2
import httpx2

from server.errors import Expired, FetchFailed, FetchOff, Overloaded, TooLarge
from server.inputs.reach import URL_CHARS, Address, OutOfReach, Reach, port_of

log = logging.getLogger(__name__)

REDIRECTS = 3
CONNECT_SECONDS = 3.0  # to resolve a name and connect; and again for TLS
DIALS = 4  # of a name's addresses are tried: one is often of a protocol that is not routed
HEADERS = (
    (b"User-Agent", b"limner"),
    (b"Accept", b"image/*"),
    (b"Accept-Encoding", b"identity"),
    (b"Connection", b"close"),
)
TIMEOUTS = {"timeout": {"connect": CONNECT_SECONDS}}
UNSAID = "could not fetch the image"  # whatever was the matter: it would tell what is there

Own: TypeAlias = Callable[[str], Awaitable[bytes | None]]
Resolve: TypeAlias = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetched image may be and may cost."""

    bytes: int = 25 * 2**20
    seconds: float = 10.0  # all together: a server that sends drop by drop does not prolong it
    at_once: int = 4  # fetches; others wait


class _Failed(Exception):
    """Why nothing was fetched, in the words of the log."""


FAILURES = (
    *(_Failed, OutOfReach, OSError, httpcore2.TimeoutException, httpcore2.NetworkError),
    *(httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, httpcore2.ConnectionNotAvailable),
)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system resolves it. Raises OSError."""
    return [str(answer[4][0]) for answer in getaddrinfo(host, port, type=SOCK_STREAM)]


class Fetcher:
    """Fetches images by URL, a few at once; inside its context.

    Args:
        reach: where it may go; None: nowhere.
        own: reads what a link of this server's own leads to; None if it is another's link. Raises
            Expired.
        resolver: a host's addresses; called in threads.
        network: what dials a literal address.
        tls: what certificates are checked with; None: as the system does.
    """

    def __init__(
        self,
        reach: Reach | None,
        limits: FetchLimits,
        *,
        own: Own | None = None,
        resolver: Resolve = resolve,
        network: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._reach = reach
        self._limits = limits
        self._own = own
        self._tls = tls
        self._slots = asyncio.Semaphore(limits.at_once)
        # Threads of their own: a resolver that hangs holds up nothing but fetches.
        self._threads = ThreadPoolExecutor(2 * limits.at_once, "resolve")
        # Declared twice there, once for machines without anyio; a checker takes the wrong one.
        dialling = network or cast(httpcore2.AsyncNetworkBackend, httpcore2.AnyIOBackend())
        self._network = _Checked(reach or Reach(), resolver, dialling, self._threads)
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def fetch(self, url: str, *, param: str) -> bytes:
        """What a URL leads to, at most `limits.bytes`. `param` is the field that held the URL.

        Raises:
            FetchFailed: nothing was got; the client is not told why, unless it is the URL itself.
            FetchOff: the configuration does not allow it.
            TooLarge: it is larger than it may be.
            Overloaded: the others took too long.
        """
        if len(url) > URL_CHARS:  # whoever splits it next may remember it: `urlsplit` does
            raise FetchFailed(f"must be a URL of at most {URL_CHARS} characters", param=param)
        if (mine := await self._of_ours(url, param)) is not None:
            return mine
        if self._reach is None:
            why = 'image URLs are not fetched here: url_fetch is "off" in the configuration'
            raise FetchOff(why, param=param)
        try:
            first = self._reach.first(url)
        except OutOfReach as complaint:
            raise FetchFailed(str(complaint), param=param) from complaint
        await self._turn(param)
        try:
            return await self._fetched(first, param)
        finally:
            self._slots.release()

    async def _of_ours(self, url: str, param: str) -> bytes | None:
        try:
            data = await self._own(url) if self._own else None
        except Expired as late:
            raise FetchFailed(late.message, param=param) from late
        if data is not None and len(data) > self._limits.bytes:
            raise self._too_large(param)
        return data

    async def _turn(self, param: str) -> None:
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._slots.acquire()
        except TimeoutError:
            why = "too many images are being fetched"
            raise Overloaded(why, param=param, retry_after=ceil(self._limits.seconds)) from None

    async def _fetched(self, first: httpx2.URL, param: str) -> bytes:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._followed(first, param)
        except FAILURES as error:
            # No path and no query: those of signed links are secrets.
            where = f"{first.scheme}://{first.host}:{port_of(first)}"
            log.warning("%s could not be fetched: %.300r", where, error)
            raise FetchFailed(UNSAID, param=param) from error

    async def _followed(self, url: httpx2.URL, param: str) -> bytes:
        reach, pool = self._reach, self._pool
        assert reach, "nothing is fetched"
        assert pool, "used outside of its context"
        for _ in range(REDIRECTS + 1):
            headers = [(b"Host", url.netloc), *HEADERS]
            async with pool.stream(
                "GET", _target(url), headers=headers, extensions=TIMEOUTS
            ) as answer:
                if answer.status == 200:
                    return await self._body(answer, param)
                location = _header(answer, b"location")
                if answer.status not in (301, 302, 303, 307, 308) or not location:
                    raise _Failed(f"status {answer.status}")
            url = reach.after(url, location)
        raise _Failed(f"more than {REDIRECTS} redirects")

    async def _body(self, answer: httpcore2.Response, param: str) -> bytes:
        encoding = _header(answer, b"content-encoding").lower()
        if encoding not in ("", "identity"):  # a few bytes of it can be a gigabyte
            raise _Failed(f"encoded as {encoding}")
        declared = _header(answer, b"content-length")
        if declared.isdecimal() and int(declared) > self._limits.bytes:
            raise self._too_large(param)
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.aiter_stream():
            size += len(piece)
            if size > self._limits.bytes:
                raise self._too_large(param)
            pieces.append(piece)
        return b"".join(pieces)

    def _too_large(self, param: str) -> TooLarge:
        return TooLarge(f"the image is larger than {self._limits.bytes} bytes", param=param)

    async def __aenter__(self) -> Self:
        if self._reach:
            tls = self._tls or await asyncio.to_thread(httpx2.create_ssl_context)
            self._pool = httpcore2.AsyncConnectionPool(
                tls,
                max_connections=None,
                max_keepalive_connections=0,
                network_backend=self._network,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._pool:
            await self._pool.aclose()


class _Checked(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, and dials its addresses as numbers if all of them may be dialled."""

    def __init__(
        self,
        reach: Reach,
        resolver: Resolve,
        network: httpcore2.AsyncNetworkBackend,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._reach = reach
        self._resolver = resolver
        self._network = network
        self._threads = threads

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the interface has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        async with asyncio.timeout(CONNECT_SECONDS):
            *others, last = (await self._addresses(host, port))[:DIALS]
            for address in others:
                try:
                    return await self._network.connect_tcp(address, port)
                except httpcore2.NetworkError as error:
                    log.info("%s of %s: %r", address, host, error)
            return await self._network.connect_tcp(last, port)

    async def _addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._threads, self._resolver, host, port)
        addresses: dict[str, Address] = {text: ipaddress.ip_address(text) for text in answers}
        barred = [
            text
            for text, address in addresses.items()
            if not self._reach.permits(host, port, address)
        ]
        if barred or not addresses:
            raise _Failed(f"{host} leads to {', '.join(barred) or 'no address'}")
        return [*addresses]


def _target(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _header(answer: httpcore2.Response, name: bytes) -> str:
    """The value of a header; two of a kind are joined, as HTTP has it."""
    found = [value for key, value in answer.headers if key.lower() == name]
    return b", ".join(found).decode("latin-1").strip()
