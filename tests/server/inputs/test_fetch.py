"""Fetching by URL, against real servers on this machine and a real look at every connect().

What is public is told by `Internet`: it dials real sockets, in place of public addresses.
"""

import asyncio
import ssl
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore2
import pytest
import trustme

from server.errors import Expired, FetchFailed, FetchOff, Overloaded, Refusal, TooLarge
from server.inputs.fetch import UNSAID, Fetcher, FetchLimits, resolve
from server.inputs.reach import URL_CHARS, Reach

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
TRUSTLESS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to read the system's takes a while
QUICK = FetchLimits(bytes=100_000, seconds=5)

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]


# -- Servers, and an internet to reach them through ----------------------------------------------


@dataclass
class Site:
    """A server on this machine, and what was asked of it."""

    port: int
    heads: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)  # by SNI
    sent: int = 0

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]


@asynccontextmanager
async def site(
    *answers: bytes | Talk, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Site]:
    """Gives its answers one after the other, and the last one again and again."""
    told = Site(0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            answer = answers[min(len(told.heads), len(answers) - 1)]
            told.heads.append(head)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the fetcher had enough, or the test
        finally:
            writer.close()

    if tls:
        tls.sni_callback = lambda _, name, __: told.names.append(name)
    server = await asyncio.start_server(talk, host, 0, ssl=tls)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()


def http(body: bytes = PNG, status: str = "200 OK", **headers: str) -> bytes:
    head = {"content_length": f"{len(body)}", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in head.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def to(location: str, status: int = 302) -> bytes:
    return http(b"elsewhere", f"{status} Away", location=location, set_cookie="a=b")


class Internet(httpcore2.AsyncNetworkBackend):
    """Public addresses with sites behind them; whatever else is dialled is written down too."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self.dialled: list[str] = []
        self._sites = sites
        self._under = httpcore2.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *_: object, **__: object):
        self.dialled.append(host)
        if host not in self._sites:
            raise httpcore2.ConnectError("unreachable")
        return await self._under.connect_tcp("127.0.0.1", self._sites[host].port)


def names(**known: list[str]) -> Callable[[str, int], list[str]]:
    """A resolver that knows `a_test` as a.test, and asks the system about the rest."""
    table = {name.replace("_", "."): addresses for name, addresses in known.items()}

    def resolver(host: str, port: int) -> list[str]:
        return table[host] if host in table else resolve(host, port)

    return resolver


async def attempt(fetcher: Fetcher, url: str) -> bytes | Refusal:
    try:
        return await fetcher.fetch(url, param="image")
    except Refusal as refusal:
        return refusal


class Connects:
    """Every connect() of this process, while it listens."""

    def __init__(self) -> None:
        self.listening = False
        self.seen: list[object] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if self.listening and event == "socket.connect":
            self.seen.append(args[1])


CONNECTS = Connects()  # hooks are for ever, so there is one


@pytest.fixture
def connects():
    CONNECTS.seen = []
    CONNECTS.listening = True
    yield CONNECTS.seen
    CONNECTS.listening = False


# -- Where it must not go ------------------------------------------------------------------------

HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://public.test@127.0.0.1:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::ffff:0:7f00:1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:470::5efe:7f00:1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[fd00:ec2::254]:{port}/",
    "http://10.0.0.1:{port}/",
    "http://100.64.0.1:{port}/",
    "http://169.254.169.254:{port}/latest/meta-data/",
    "http://172.16.0.1:{port}/",
    "http://192.0.0.9:{port}/",
    "http://192.168.0.1:{port}/",
    "http://224.0.0.1:{port}/",
    "http://inside.test:{port}/",
    "http://mixed.test:{port}/",
    "http://mixed6.test:{port}/",
    "http://nobody.test:{port}/",
]
NAMES = names(
    public_test=["93.184.216.34"],
    inside_test=["127.0.0.1"],
    mixed_test=["93.184.216.34", "127.0.0.1"],
    mixed6_test=["2606:2800:220:1::1", "::1"],
    nobody_test=[],
)


def test_no_hostile_url_makes_a_connection(connects, monkeypatch):
    async def story() -> None:
        async with site(http()) as four, site(http(), host="::1") as six:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{four.port}")
            monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{four.port}")
            reach = Reach(ports={80, 443, four.port, six.port})
            async with Fetcher(reach, QUICK, resolver=NAMES) as fetcher:
                for url in HOSTILE:
                    for port in (four.port, six.port):
                        answer = await attempt(fetcher, url.format(port=port))
                        assert isinstance(answer, FetchFailed), url
            assert (connects, four.heads, six.heads) == ([], [], [])

    asyncio.run(story())


def test_the_harness_sees_what_is_let_through(connects):
    async def story() -> None:
        async with site(http()) as here:
            reach = Reach.to([f"127.0.0.1:{here.port}"])
            async with Fetcher(reach, QUICK) as fetcher:
                url = f"http://127.0.0.1:{here.port}/a?b#c"
                assert await fetcher.fetch(url, param="image") == PNG
            assert connects == [("127.0.0.1", here.port)]
            assert here.paths == ["/a?b"]

    asyncio.run(story())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_leads_there_either(status: int, connects):
    async def story() -> None:
        for hostile in HOSTILE:
            target = hostile.format(port=80)
            async with site(to("http://public.test/b"), to(target, status), http()) as there:
                internet = Internet({"93.184.216.34": there})
                async with Fetcher(
                    Reach(), QUICK, resolver=NAMES, network=internet, tls=TRUSTLESS
                ) as fetcher:
                    answer = await attempt(fetcher, "http://public.test/a")
                assert isinstance(answer, FetchFailed), hostile
                assert answer.message == UNSAID
                assert internet.dialled == ["93.184.216.34"] * 2
                assert set(connects) <= {("127.0.0.1", there.port)}
                connects.clear()

    asyncio.run(story())


def test_a_name_is_resolved_once_and_what_was_checked_is_dialled():
    async def story() -> None:
        asked = iter([["93.184.216.34"], ["127.0.0.1"]])

        def rebinding(host: str, port: int) -> list[str]:
            return next(asked)

        async with site(http()) as there:
            internet = Internet({"93.184.216.34": there})
            async with Fetcher(
                Reach(), QUICK, resolver=rebinding, network=internet, tls=TRUSTLESS
            ) as fetcher:
                assert await attempt(fetcher, "http://rebind.test/") == PNG
                answer = await attempt(fetcher, "http://rebind.test/")  # and each time anew
                assert isinstance(answer, FetchFailed)
            assert internet.dialled == ["93.184.216.34"]
            assert "Host: rebind.test\r\n" in there.heads[0]

    asyncio.run(story())


REBOUND = """
    0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 192.0.0.9 192.168.0.1
    198.18.0.1 224.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:0:7f00:1
    64:ff9b::7f00:1 64:ff9b:1::7f00:1 2001:0:7f00:1::1 2001:470::5efe:7f00:1 2002:7f00:1::
    fd00:ec2::254 fe80::1 fec0::1 ff02::1
"""


@pytest.mark.parametrize("then", [[], ["93.184.216.34"]], ids=["alone", "beside a public one"])
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_no_name_that_changes_its_answer_leads_there(hops: int, then: list[str], connects):
    """At the start, or on the way: every hop asks anew, and all that is answered must be public."""

    async def story() -> None:
        for hostile in REBOUND.split():
            answers = [["93.184.216.34"]] * hops + [[hostile, *then]]
            rebinding = iter(answers)

            def resolver(host: str, port: int, known=rebinding) -> list[str]:
                return next(known)

            async with site(to("http://rebind.test/on"), to("/on"), http()) as there:
                internet = Internet({"93.184.216.34": there})
                async with Fetcher(
                    Reach(), QUICK, resolver=resolver, network=internet, tls=TRUSTLESS
                ) as fetcher:
                    answer = await attempt(fetcher, "http://rebind.test/")
            assert isinstance(answer, FetchFailed), hostile
            assert answer.message == UNSAID
            assert internet.dialled == ["93.184.216.34"] * hops, hostile
            assert set(connects) <= {("127.0.0.1", there.port)}
            connects.clear()

    asyncio.run(story())


def test_a_list_is_checked_on_every_hop():
    async def story() -> None:
        async with site(http()) as other, site(to(f"http://127.0.0.1:{other.port}/")) as here:
            async with Fetcher(Reach.to([f"127.0.0.1:{here.port}"]), QUICK) as fetcher:
                answer = await attempt(fetcher, f"http://127.0.0.1:{here.port}/")
                assert (type(answer), answer.message) == (FetchFailed, UNSAID)
                answer = await attempt(fetcher, f"http://127.0.0.1:{other.port}/")
                assert "port" in answer.message
                answer = await attempt(fetcher, "http://example.com/")
                assert "url_fetch" in answer.message
            assert other.heads == []

    asyncio.run(story())


# -- What is fetched ------------------------------------------------------------------------------


async def fetched(
    *answers: bytes | Talk, limits: FetchLimits = QUICK, url: str = "http://public.test/a"
) -> tuple[bytes | Refusal, Site]:
    """What comes of a site that gives these answers."""
    async with site(*answers) as there:
        internet = Internet({"93.184.216.34": there})
        async with Fetcher(
            Reach(), limits, resolver=NAMES, network=internet, tls=TRUSTLESS
        ) as fetcher:
            return await attempt(fetcher, url), there


def test_three_redirects_are_followed_and_four_are_not():
    hops = [to("/b", 301), to("http://public.test/c", 307), to("//public.test/d", 308)]
    answer, there = asyncio.run(fetched(*hops, http()))
    assert (answer, there.paths) == (PNG, ["/a", "/b", "/c", "/d"])
    answer, there = asyncio.run(fetched(*hops, to("/e"), http()))
    assert (type(answer), there.paths) == (FetchFailed, ["/a", "/b", "/c", "/d"])


def test_nothing_is_said_about_us():
    answer, there = asyncio.run(fetched(to("/b"), http()))
    assert answer == PNG
    for path, head in zip(("/a", "/b"), there.heads, strict=True):
        assert head == (
            f"GET {path} HTTP/1.1\r\nHost: public.test\r\nUser-Agent: limner\r\n"
            "Accept: image/*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )


def test_chunks_are_put_together():
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (PNG[:100], PNG[100:]))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert asyncio.run(fetched(answer))[0] == PNG


def test_the_next_address_is_tried():
    async def story() -> None:
        async with site(http()) as there:
            internet = Internet({"93.184.216.34": there})
            both = names(two_test=["2606:2800:220:1::1", "93.184.216.34"])
            async with Fetcher(
                Reach(), QUICK, resolver=both, network=internet, tls=TRUSTLESS
            ) as fetcher:
                assert await attempt(fetcher, "http://two.test/") == PNG
            assert internet.dialled == ["2606:2800:220:1::1", "93.184.216.34"]

    asyncio.run(story())


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_certificates_are_of_the_name_not_of_the_address():
    async def story() -> None:
        authority = trustme.CA()
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        context = certified(authority, "secure.test")
        async with site(http(), to("http://public.test/"), http(), tls=context) as there:
            internet = Internet({"93.184.216.34": there})
            known = names(secure_test=["93.184.216.34"], other_test=["93.184.216.34"])
            async with Fetcher(
                Reach(), QUICK, resolver=known, network=internet, tls=trusting
            ) as fetcher:
                assert await attempt(fetcher, "https://secure.test/") == PNG
                away = await attempt(fetcher, "https://secure.test/")  # from https to http
                assert (type(away), away.message) == (FetchFailed, UNSAID)
                stranger = await attempt(fetcher, "https://other.test/")
                assert (type(stranger), stranger.message) == (FetchFailed, UNSAID)
            async with Fetcher(
                Reach(), QUICK, resolver=known, network=internet, tls=TRUSTLESS
            ) as fetcher:
                unknown = await attempt(fetcher, "https://secure.test/")
                assert (type(unknown), unknown.message) == (FetchFailed, UNSAID)
            assert len(there.heads) == 2
            assert there.names == ["secure.test", "secure.test", "other.test", "secure.test"]

    asyncio.run(story())


# -- What is too much -----------------------------------------------------------------------------

SHORT = FetchLimits(bytes=100_000, seconds=0.4)


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize("talk", [drip, drip_head, silence])
def test_a_server_that_dawdles_is_left(talk: Talk):
    started = time.monotonic()
    answer, _ = asyncio.run(fetched(to("/b"), talk, limits=SHORT))
    assert (type(answer), answer.message) == (FetchFailed, UNSAID)
    assert time.monotonic() - started < SHORT.seconds + 0.5


def test_a_resolver_that_dawdles_is_left():
    released = threading.Event()

    def stuck(host: str, port: int) -> list[str]:
        released.wait(30)
        return []

    async def story() -> None:
        async with Fetcher(Reach(), SHORT, resolver=stuck) as fetcher:
            started = time.monotonic()
            assert isinstance(await attempt(fetcher, "http://slow.test/"), FetchFailed)
            assert time.monotonic() - started < SHORT.seconds + 0.5

    try:
        asyncio.run(story())
    finally:
        released.set()


def test_an_address_that_never_answers_is_left_early(monkeypatch):
    monkeypatch.setattr("server.inputs.fetch.CONNECT_SECONDS", 0.1)

    class Nowhere(Internet):
        async def connect_tcp(self, host: str, port: int, *_: object, **__: object):
            await asyncio.sleep(30)

    async def story() -> None:
        async with Fetcher(
            Reach(), QUICK, resolver=NAMES, network=Nowhere({}), tls=TRUSTLESS
        ) as fetcher:
            started = time.monotonic()
            answer = await attempt(fetcher, "http://public.test/")
            assert (type(answer), answer.message) == (FetchFailed, UNSAID)
            assert time.monotonic() - started < 2

    asyncio.run(story())


def test_a_length_over_the_limit_is_enough():
    async def boast(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n")
        await asyncio.sleep(30)

    started = time.monotonic()
    answer, _ = asyncio.run(fetched(boast))
    assert (type(answer), answer.param) == (TooLarge, "image")
    assert time.monotonic() - started < 0.5
    assert isinstance(asyncio.run(fetched(http(content_length="9" * 18)))[0], TooLarge)


def test_no_more_is_taken_than_the_limit():
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    answer, _ = asyncio.run(fetched(flood))
    assert isinstance(answer, TooLarge)
    assert sent < 8 * 2**20  # what the sockets of both sides hold by themselves


@pytest.mark.parametrize(("size", "fits"), [(100_000, True), (100_001, False)])
def test_the_limit_to_the_byte(size: int, fits: bool):
    body = b"x" * size
    bare = b"HTTP/1.1 200 OK\r\n\r\n" + body
    for answer in (http(body), bare):
        found = asyncio.run(fetched(answer))[0]
        assert found == body if fits else isinstance(found, TooLarge)


GZIP = b"\x1f\x8b\x08\x00" + bytes(60)


@pytest.mark.parametrize(
    "answer",
    [
        http(GZIP, content_encoding="gzip"),
        http(GZIP, content_encoding="identity, br"),
        http(PNG, content_length="999"),
        http(PNG, content_length=f"{len(PNG) + 1}"),
        http(PNG, status="200 OK\r\nContent-Length: 5"),
        http(PNG, content_length="-1"),
        http(PNG, status="206 Partial Content"),
        http(b"", status="204 No Content"),
        http(b"", status="304 Not Modified"),
        http(status="401 Unauthorized"),
        http(status="404 Not Found"),
        http(status="500 Oh"),
        http(status="302 Found"),
        http(status="302 Found", location="http://[/"),
        http(status="302 Found", location="/x\r\nLocation: /y"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffff",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00" * 1000,
        b"",
    ],
)
def test_what_is_no_picture_for_us(answer: bytes):
    found, _ = asyncio.run(fetched(answer))
    if answer == http(PNG, content_length="999"):  # it said where the picture ends
        assert found == PNG[:999]
        return
    assert (type(found), found.message, found.param) == (FetchFailed, UNSAID, "image")


def test_nobody_learns_what_is_there(caplog):
    async def story() -> set[tuple[object, ...]]:
        async with site(http(status="404 Not Found")) as there, site(silence) as quiet:
            sites = {"93.184.216.34": there, "1.1.1.1": quiet}
            known = names(
                refusing_test=["8.8.8.8"],
                quiet_test=["1.1.1.1"],
                inside_test=["10.0.0.1"],
                missing_test=["93.184.216.34"],
                nobody_test=[],
            )
            internet = Internet(sites)
            async with Fetcher(
                Reach(), SHORT, resolver=known, network=internet, tls=TRUSTLESS
            ) as fetcher:
                urls = [
                    f"http://{name}.test/secret?token=1"
                    for name in ("refusing", "quiet", "inside", "missing", "nobody")
                ]
                answers = [await attempt(fetcher, url) for url in urls]
        return {(type(a), str(a), a.param, a.retry_after) for a in answers}

    assert asyncio.run(story()) == {(FetchFailed, UNSAID, "image", None)}
    assert "10.0.0.1" in caplog.text
    assert "404" in caplog.text
    assert "secret" not in caplog.text
    assert "token" not in caplog.text


# -- Company --------------------------------------------------------------------------------------


def test_few_at_once_and_the_others_wait_their_turn():
    running = most = 0

    async def slow(writer: asyncio.StreamWriter) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        writer.write(http())

    async def story() -> None:
        limits = FetchLimits(at_once=2)
        async with site(slow) as there:
            internet = Internet({"93.184.216.34": there})
            async with Fetcher(
                Reach(), limits, resolver=NAMES, network=internet, tls=TRUSTLESS
            ) as fetcher:
                jobs = [attempt(fetcher, "http://public.test/") for _ in range(7)]
                assert await asyncio.gather(*jobs) == [PNG] * 7

    asyncio.run(story())
    assert most == 2


def test_who_leaves_holds_nobody_up():
    async def story() -> None:
        asked = asyncio.Event()

        async def quiet(writer: asyncio.StreamWriter) -> None:
            asked.set()
            await silence(writer)

        limits = FetchLimits(seconds=2, at_once=1)
        async with site(quiet, http()) as there:
            internet = Internet({"93.184.216.34": there})
            async with Fetcher(
                Reach(), limits, resolver=NAMES, network=internet, tls=TRUSTLESS
            ) as fetcher:
                url = "http://public.test/"
                jobs = [asyncio.create_task(attempt(fetcher, url)) for _ in range(3)]
                await asked.wait()
                jobs[1].cancel()  # while it waits
                jobs[0].cancel()  # in the middle of it
                assert await jobs[2] == PNG

    asyncio.run(story())


def test_who_waits_too_long_is_told_when_to_come_back():
    async def story() -> None:
        limits = FetchLimits(seconds=0.3, at_once=1)
        async with site(silence) as there:
            internet = Internet({"93.184.216.34": there})
            async with Fetcher(
                Reach(), limits, resolver=NAMES, network=internet, tls=TRUSTLESS
            ) as fetcher:
                jobs = [attempt(fetcher, "http://public.test/") for _ in range(4)]
                first, *_, last = await asyncio.gather(*jobs)
                assert isinstance(first, FetchFailed)
                assert (type(last), last.retry_after) == (Overloaded, 1)

    asyncio.run(story())


# -- Our own links, and none at all ---------------------------------------------------------------


def test_off_names_the_setting():
    async def story() -> None:
        async with Fetcher(None, QUICK) as fetcher:
            answer = await attempt(fetcher, "http://example.com/")
        assert (type(answer), answer.param) == (FetchOff, "image")
        assert "url_fetch" in answer.message

    asyncio.run(story())


def test_our_own_links_are_not_fetched(connects):
    async def own(url: str) -> bytes | None:
        if url.endswith("old"):
            raise Expired("the link has expired")
        return {"http://127.0.0.1:8484/files/a": PNG, "http://x/b": b"x" * 100_001}.get(url)

    async def story(reach: Reach | None) -> None:
        async with Fetcher(reach, QUICK, own=own) as fetcher:
            assert await attempt(fetcher, "http://127.0.0.1:8484/files/a") == PNG
            assert isinstance(await attempt(fetcher, "http://x/b"), TooLarge)
            late = await attempt(fetcher, "http://x/old")
            assert (type(late), late.message) == (FetchFailed, "the link has expired")
            other = await attempt(fetcher, "http://127.0.0.1/")
            assert isinstance(other, FetchFailed if reach else FetchOff)
        assert connects == []

    asyncio.run(story(None))
    asyncio.run(story(Reach()))


def test_what_is_too_long_is_taken_apart_by_nobody():
    seen: list[str] = []

    async def own(url: str) -> bytes | None:
        seen.append(url)
        return PNG

    async def story(reach: Reach | None) -> None:
        longest = "http://x/".ljust(URL_CHARS, "a")
        async with Fetcher(reach, QUICK, own=own) as fetcher:
            assert await attempt(fetcher, longest) == PNG
            answer = await attempt(fetcher, longest + "a")
        assert (type(answer), answer.param) == (FetchFailed, "image")
        assert f"at most {URL_CHARS} characters" in answer.message
        assert seen.pop() == longest
        assert not seen

    asyncio.run(story(None))
    asyncio.run(story(Reach()))
