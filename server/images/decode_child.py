"""The server's end of one decode child: the process, its socket, and the thread that talks to it.

All that blocks happens in that one thread, in few and large system calls, so that neither the
event loop nor the interpreter lock is held up by megabytes. Knows nothing of pools or deadlines.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.contract import Image
from server.images.decoder import Answer, Decoded, Ready, Refused, Request, frame

ROOT = Path(__file__).parents[2]  # where `server` and `models` are imported from
COMMAND = (sys.executable, "-m", "server.images.decoder")
MAX_HEAD = 2**16  # bytes; the child parses hostile bytes, so what it says is not trusted either


class ChildDied(Exception):
    """The process is gone, or speaks nonsense; it is of no further use."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An uploaded image, upright. `flattened`: some of it was transparent, and is on white now."""

    image: Image
    flattened: bool


class Child:
    """A decode child, starting. Calls queue up behind its start and behind each other."""

    def __init__(self) -> None:
        self.asked = 0  # requests so far
        self._ended = False
        self._ours, self._theirs = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
        self._thread = ThreadPoolExecutor(1, "decode child")
        self._start: Future[None] = self._thread.submit(self._run)

    @property
    def gone(self) -> bool:
        """Whether it died, by itself or by someone's hand, after it had been started."""
        return self._process is not None and self._process.poll() is not None

    async def started(self) -> None:
        """Wait until the child is up.

        Raises:
            ChildDied, OSError: it cannot be started.
        """
        await asyncio.wrap_future(self._start)

    async def ask(self, request: Request, data: bytes) -> Opened | Refused:
        """Have a file opened. Once this is cancelled the child can only be ended.

        Raises:
            ChildDied: before it had answered in full.
        """
        if self._ended:
            raise ChildDied("it was ended")
        self.asked += 1
        return await asyncio.wrap_future(self._thread.submit(self._converse, request, data))

    def end(self) -> asyncio.Future[None]:
        """Kill the child, whatever it is doing; done when it is gone. Only once."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)  # wakes the thread, which may be in the kernel
        ending = asyncio.wrap_future(self._thread.submit(self._bury))
        self._thread.shutdown(wait=False)
        return ending

    # -- In the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            # Without the server's environment, which may hold its secrets.
            self._process = subprocess.Popen(  # noqa: S603
                COMMAND,
                stdin=self._theirs.fileno(),
                stdout=self._theirs.fileno(),
                cwd=ROOT,
                env={},
            )
        finally:
            self._theirs.close()  # or its death would never be seen
        if not isinstance(self._head(), Ready):
            raise ChildDied("it did not say that it is ready")

    def _converse(self, request: Request, data: bytes) -> Opened | Refused:
        try:
            self._ours.sendall(frame(request))
            self._ours.sendall(data)
            head = self._head()
            if isinstance(head, Refused):
                return head
            if not isinstance(head, Decoded) or not _fits(head, request):
                raise ChildDied(f"it answered {head!r}")
            channels = 3 if head.mode == "RGB" else 1
            pixels = self._receive(head.width * head.height * channels)
            return Opened(Image(head.width, head.height, head.mode, pixels), head.flattened)
        except OSError as error:
            raise ChildDied(str(error)) from error

    def _head(self) -> Answer:
        length = int.from_bytes(self._receive(4), "big")
        if length > MAX_HEAD:
            raise ChildDied(f"it announced {length} bytes")
        try:
            return self._answers.decode(self._receive(length))
        except msgspec.MsgspecError as error:
            raise ChildDied(str(error)) from error

    def _receive(self, size: int) -> bytes:
        """Exactly `size` bytes, in one system call that needs no lock, unless it is interrupted."""
        parts: list[bytes] = []
        while size:
            part = self._ours.recv(size, socket.MSG_WAITALL)
            if not part:
                raise ChildDied("it is gone")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)  # a single part is not copied

    def _bury(self) -> None:
        self._ours.close()
        if self._process:
            self._process.kill()
            self._process.wait()


def _fits(head: Decoded, request: Request) -> bool:
    width, height, bounds = head.width, head.height, request.bounds
    in_bounds = min(width, height) > 0 and max(width, height) <= bounds.max_side
    mode = "RGB" if request.role == "image" else "L"
    return in_bounds and width * height <= bounds.max_pixels and head.mode == mode
