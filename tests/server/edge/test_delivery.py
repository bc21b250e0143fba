"""Clients that leave, that read slowly, that wait: driven message by message."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message

from server.edge.delivery import Conversation, EventStream, Gone, JsonAnswer, left, unless_gone
from server.errors import BadRequest, Refusal
from server.images.inline import DataUrl
from server.images.pictures import Picture


class Client:
    """The other end of an ASGI application."""

    def __init__(self, delay: float | None = None) -> None:
        self.sent: list[Message] = []
        self.leave = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.delay = delay

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        if self.delay is not None:
            await asyncio.sleep(self.delay)
        self.sent.append(message)

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def error_event(refusal: Refusal) -> dict[str, Any]:
    return {"error": refusal.message}


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story, and expect that it leaves no task behind."""

    async def whole() -> None:
        async with asyncio.timeout(5):
            await story()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


def test_work_that_ends_is_returned():
    async def story() -> None:
        client = Client()
        assert await unless_gone(asyncio.sleep(0, "done"), left(client.receive)) == "done"

    run(story)


def test_work_that_ends_as_the_client_leaves_is_returned():
    async def story() -> None:
        assert await unless_gone(asyncio.sleep(0, "done"), asyncio.sleep(0)) == "done"

    run(story)


def test_refusals_pass_as_they_are():
    async def story() -> None:
        async def work() -> None:
            raise BadRequest("no")

        with pytest.raises(BadRequest, match="no"):
            await unless_gone(work(), left(Client().receive))

    run(story)


def test_leaving_cancels_once_and_waits_for_the_end():
    async def story() -> None:
        client = Client()
        ends: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ends.append("cancelled")
                await asyncio.sleep(0.02)  # would be cut short by a second cancel
                ends.append("cleared up")
                raise

        asyncio.get_running_loop().call_later(0.01, client.leave.set)
        with pytest.raises(Gone):
            await unless_gone(work(), left(client.receive))
        assert ends == ["cancelled", "cleared up"]

    run(story)


def test_cancelling_from_outside_cancels_the_work():
    async def story() -> None:
        cancelled = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        task = asyncio.create_task(unless_gone(work(), left(Client().receive)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled.is_set()

    run(story)


def test_a_json_answer_says_its_length_and_comes_in_pieces():
    async def story() -> None:
        client = Client()
        picture = Picture(bytes(500_000), "png", 1, 1)
        answer = JsonAnswer({"url": DataUrl(picture)}, headers={"X-Y": "z"})
        await answer({"type": "http"}, client.receive, client.send)
        headers = dict(client.sent[0]["headers"])
        assert int(headers[b"content-length"]) == len(client.body)
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"x-y"] == b"z"
        assert len(client.sent) > 4
        assert [message["more_body"] for message in client.sent[1:]][-2:] == [True, False]

    run(story)


def test_a_fast_reader_does_not_keep_the_loop_to_itself():
    async def story() -> None:
        client = Client()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        answer = JsonAnswer({"url": DataUrl(Picture(bytes(1_000_000), "png", 1, 1))})
        answering = answer({"type": "http"}, client.receive, client.send)
        task = asyncio.create_task(others())
        await answering
        task.cancel()
        await asyncio.wait([task])
        assert turns >= len(client.sent) - 2

    run(story)


def test_a_json_answer_is_cut_if_it_is_not_read():
    async def story() -> None:
        client = Client()
        answer = JsonAnswer({"url": DataUrl(Picture(bytes(9), "png", 1, 1))}, send_seconds=0.02)

        async def send(message: Message) -> None:
            await client.send(message)
            client.reads.clear()

        with pytest.raises(Gone):
            await answer({"type": "http"}, client.receive, send)

    run(story)


def converse(talk: Callable[[EventStream], Awaitable[None]], client: Client, **how: float) -> Any:
    conversation = Conversation(talk, error_event, **how)
    return conversation({"type": "http"}, client.receive, client.send)


def test_events():
    async def story() -> None:
        client = Client()

        async def talk(stream: EventStream) -> None:
            await stream.open({"X-Y": "z"})
            await stream.event({"a": "line\nbreak"})
            await stream.event({"b": DataUrl(Picture(b"abc", "png", 1, 1))}, "a.name")

        await converse(talk, client)
        headers = dict(client.sent[0]["headers"])
        assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"x-y"] == b"z"
        assert b"content-length" not in headers
        assert client.body == (
            b'data: {"a":"line\\nbreak"}\n\n'
            b'event: a.name\ndata: {"b":"data:image/png;base64,YWJj"}\n\n'
            b"data: [DONE]\n\n"
        )
        assert client.sent[-1]["more_body"] is False

    run(story)


def test_what_is_refused_before_the_start_is_no_stream():
    async def story() -> None:
        client = Client()

        async def talk(stream: EventStream) -> None:
            raise BadRequest("no")

        with pytest.raises(BadRequest):
            await converse(talk, client)
        assert client.sent == []

    run(story)


@pytest.mark.parametrize("error", [BadRequest("no"), RuntimeError("secret")])
def test_what_breaks_later_is_the_last_event(error: Exception, caplog: pytest.LogCaptureFixture):
    async def story() -> None:
        client = Client()

        async def talk(stream: EventStream) -> None:
            await stream.open()
            raise error

        await converse(talk, client)
        assert client.body.endswith(b"}\n\ndata: [DONE]\n\n")
        assert b"secret" not in client.body
        assert b'data: {"error":' in client.body

    with caplog.at_level(logging.ERROR, "server.edge.delivery"):
        run(story)
    assert ("secret" in caplog.text) == isinstance(error, RuntimeError)


def test_silence_is_filled_with_comments_between_events():
    async def story() -> None:
        client = Client(delay=0.005)

        async def talk(stream: EventStream) -> None:
            await asyncio.sleep(0.03)  # not opened yet: no pings
            await stream.open()
            await asyncio.sleep(0.05)
            await stream.event({"a": DataUrl(Picture(bytes(10**6), "png", 1, 1))})

        await converse(talk, client, ping_seconds=0.01)
        assert client.body.count(b": ping\n\n") >= 2
        url = b"data:image/png;base64," + base64.b64encode(bytes(10**6))
        assert b'\n\ndata: {"a":"%s"}\n\ndata: [DONE]\n\n' % url in client.body

    run(story)


@pytest.mark.parametrize("how", ["leaves", "stops reading an event", "stops reading pings"])
def test_the_talk_is_cancelled_when_the_client(how: str):
    async def story() -> None:
        client = Client()
        ended = asyncio.Event()

        async def talk(stream: EventStream) -> None:
            try:
                await stream.open()
                if how == "leaves":
                    asyncio.get_running_loop().call_later(0.01, client.leave.set)
                else:
                    client.reads.clear()
                if how == "stops reading an event":
                    await stream.event({"a": 1})
                await asyncio.sleep(60)
            finally:
                ended.set()

        with pytest.raises(Gone):
            await converse(talk, client, ping_seconds=0.01, send_seconds=0.02)
        assert ended.is_set()
        assert len(client.sent) <= 3

    run(story)
