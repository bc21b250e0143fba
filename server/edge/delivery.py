"""Getting an answer to a client who may leave, or read slowly: JSON in pieces, events, cancelling.

Knows ASGI messages and documents; knows nothing of dialects or of what is being painted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import Gone as Gone
from server.errors import InternalError, Refusal
from server.images import inline

log = logging.getLogger(__name__)

PING_SECONDS = 15.0  # proxies and clients give up on a silent stream after 30 to 60
SEND_SECONDS = 30.0  # for one piece of at most 256 KiB; a slower reader is cut

T = TypeVar("T")


async def unless_gone(
    work: Coroutine[Any, Any, T],
    *ends: Coroutine[Any, Any, None],
) -> T:
    """What `work` returns or raises; cancelled once, and awaited, as soon as one of `ends` returns.

    Raises:
        Gone: one of `ends` returned before the work was done.
    """
    working = asyncio.create_task(work)
    ending = [asyncio.create_task(end) for end in ends]
    try:
        await asyncio.wait((working, *ending), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Gone
    finally:
        for task in (working, *ending):
            task.cancel()
        # The work is awaited, so that what it holds is given back before we go on.
        await asyncio.gather(working, *ending, return_exceptions=True)


async def left(receive: Receive) -> None:
    """Returns when the client closes the connection. The body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _in_time(send: Send, body: bytes, seconds: float, *, more: bool = True) -> None:
    try:
        async with asyncio.timeout(seconds):
            await send({"type": "http.response.body", "body": body, "more_body": more})
            # A reader as fast as we are would otherwise keep the loop to itself for a whole answer.
            await asyncio.sleep(0)
    except TimeoutError as late:
        raise Gone(f"read less than {len(body)} bytes in {seconds:g} s") from late


class JsonAnswer(Response):
    """A JSON document with pictures in it, sent in pieces so that it neither stalls the loop nor
    exists twice in memory."""

    media_type = "application/json"

    def __init__(
        self,
        document: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        self.parts = inline.parts_of(document)
        self.send_seconds = send_seconds
        super().__init__(headers={**(headers or {}), "Content-Length": f"{self.length()}"})

    def length(self) -> int:
        """Bytes of the body."""
        return inline.length(self.parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for piece in inline.flow(self.parts):
            await _in_time(send, piece, self.send_seconds)
        await _in_time(send, b"", self.send_seconds, more=False)


class EventStream:
    """Server-sent events: each one line `data: …`, perhaps under lines with its name and its id,
    and an empty line; comments keep it awake."""

    def __init__(
        self, send: Send, *, ping_seconds: float = PING_SECONDS, send_seconds: float = SEND_SECONDS
    ) -> None:
        self.opened = False
        self._send = send
        self._ping_seconds = ping_seconds
        self._send_seconds = send_seconds
        self._turn = asyncio.Lock()  # a ping must not fall into the middle of an event

    async def open(self, headers: Mapping[str, str] | None = None) -> None:
        """Start the answer: from here on errors are events, no longer a status."""
        answer = Response(
            headers={
                **(headers or {}),
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # or nginx would hold the events back
            },
            media_type="text/event-stream",
        )
        head = [pair for pair in answer.raw_headers if pair[0] != b"content-length"]
        self.opened = True
        await self._send({"type": "http.response.start", "status": 200, "headers": head})

    async def event(self, document: Mapping[str, Any], name: str = "", mark: str = "") -> None:
        """Send one document, as an event of this name and with this mark as its id (each one line,
        ASCII) if it has one.

        Raises:
            Gone: it is not read in time.
        """
        head = (f"id: {mark}\n" if mark else "") + (f"event: {name}\n" if name else "")
        await self._write((head.encode("ascii") + b"data: ", *inline.parts_of(document), b"\n\n"))

    async def close(self) -> None:
        """Send the last line, `data: [DONE]`, and end the answer."""
        await self._write((b"data: [DONE]\n\n",))
        await self.end()

    async def end(self) -> None:
        """End the answer, with no last line."""
        await _in_time(self._send, b"", self._send_seconds, more=False)

    async def keep_alive(self) -> None:
        """Send a comment now and then; returns when the client does not read it."""
        while True:
            await asyncio.sleep(self._ping_seconds)
            if self.opened and not self._turn.locked():
                try:
                    await self._write((b": ping\n\n",))
                except Gone:
                    return

    async def _write(self, parts: tuple[inline.Part, ...]) -> None:
        async with self._turn:
            for piece in inline.flow(parts):
                await _in_time(self._send, piece, self._send_seconds)


Talk: TypeAlias = Callable[[EventStream], Awaitable[None]]


class Conversation(Response):
    """A streamed answer. `talk` opens the stream once it knows that it can answer, and says its
    events; what it raises before that is a plain error, after that an event and the end."""

    media_type = "text/event-stream"

    def __init__(
        self,
        talk: Talk,
        error_event: Callable[[Refusal], Mapping[str, Any]],
        *,
        ping_seconds: float = PING_SECONDS,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        super().__init__()
        self._talk = talk
        self._error_event = error_event
        self._ping_seconds = ping_seconds
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = EventStream(send, ping_seconds=self._ping_seconds, send_seconds=self._send_seconds)
        await unless_gone(self._converse(stream), left(receive), stream.keep_alive())

    async def _converse(self, stream: EventStream) -> None:
        try:
            await self._talk(stream)
        except Gone:
            raise
        except Refusal as refusal:
            if not stream.opened:
                raise
            await stream.event(self._error_event(refusal))
        except Exception:
            # The ASGI edge of a stream: its status is sent, so nobody above could still say it.
            if not stream.opened:
                raise
            log.exception("a stream broke")
            await stream.event(self._error_event(InternalError("an error inside the server")))
        await stream.close()
