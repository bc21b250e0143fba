"""Messages as bytes: a 4-byte big-endian length, then MessagePack. Pure: touches no socket.

One image travels per frame, so that no single frame holds either side up for long.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from models.contract import AnyCommand, AnyEvent

MAX_FRAME = 256 * 2**20  # bytes; an 8K RGB image is 100 MB

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class WireError(Exception):
    """The other side does not speak this protocol; the connection is of no further use."""


def frame(message: AnyCommand | AnyEvent) -> bytearray:
    """Encode a message with its length in front."""
    buffer = bytearray(4)
    _encoder.encode_into(message, buffer, 4)
    buffer[:4] = (len(buffer) - 4).to_bytes(4, "big")
    return buffer


class Unframer(Generic[T]):
    """Turns a stream of bytes, however it was cut, back into messages."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """Yield every message that is complete now.

        Raises:
            WireError: the bytes are not frames of this kind of message.
        """
        self._buffer += data
        while (end := self._frame_end()) and len(self._buffer) >= end:
            body = bytes(memoryview(self._buffer)[4:end])
            del self._buffer[:end]
            try:
                message = self._decoder.decode(body)
            except (msgspec.MsgspecError, ValueError) as error:
                raise WireError(str(error)) from error
            yield message

    def _frame_end(self) -> int:
        """Where the first frame ends; 0 while its length is not known."""
        if len(self._buffer) < 4:
            return 0
        length = int.from_bytes(self._buffer[:4], "big")
        if length > MAX_FRAME:
            raise WireError(f"a frame of {length} bytes; at most {MAX_FRAME} are allowed")
        return 4 + length


def commands() -> Unframer[AnyCommand]:
    """The worker's end."""
    return Unframer(AnyCommand)


def events() -> Unframer[AnyEvent]:
    """The server's end."""
    return Unframer(AnyEvent)
