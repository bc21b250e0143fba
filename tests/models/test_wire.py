"""Messages survive the wire, however the bytes are cut; nonsense is an error, never a message."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import wire
from models.contract import (
    Attach,
    Cancel,
    Cancelled,
    Cap,
    Compiled,
    Describe,
    Evicted,
    Failed,
    Fault,
    Finished,
    Image,
    Job,
    Loaded,
    LoadFailed,
    Loading,
    Paint,
    Ready,
    Release,
    Room,
    Step,
    Stop,
)

small = st.integers(0, 5)
text = st.text(max_size=20)
images = st.builds(
    lambda w, h, mode, byte: Image(w, h, mode, bytes([byte]) * w * h * (3 if mode == "RGB" else 1)),
    small,
    small,
    st.sampled_from(["RGB", "L"]),
    st.integers(0, 255),
)
jobs = st.builds(
    Job,
    id=text,
    model=text,
    task=st.sampled_from(["generate", "edit", "inpaint"]),
    prompt=text,
    width=small,
    height=small,
    steps=small,
    guidance=st.floats(0, 50),
    seeds=st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
)
commands = st.one_of(
    st.builds(Attach, text, small, st.sampled_from(["input", "mask"]), images),
    st.builds(Paint, jobs, small),
    st.builds(Cancel, text, small),
    st.builds(Release, text),
    st.builds(Describe, text),
    st.builds(Stop),
)
caps = st.builds(Cap, st.just("forward"), small, small, small, st.floats(0, 9))
events = st.one_of(
    st.builds(Ready, text),
    st.builds(
        *(Loaded, text, st.just(("generate",)), st.floats(0, 9)),
        *(st.lists(caps, max_size=3).map(tuple), st.integers(0, 2**50)),
    ),
    st.builds(Compiled, small),
    st.builds(Loading, text),
    st.builds(Evicted, text),
    st.builds(LoadFailed, text, text),
    st.builds(Room, small),
    st.builds(Step, text, small, small, small, st.none() | images),
    st.builds(Finished, text, small, images, st.floats(0, 9), st.just(("note",))),
    st.builds(Cancelled, text, small),
    st.builds(Failed, text, small, st.builds(Fault, st.just("internal"), text)),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(st.lists(commands, max_size=5), st.lists(st.integers(0, 40), max_size=20))
def test_commands_arrive_whole_and_in_order(sent: list[object], sizes: list[int]) -> None:
    data = b"".join(bytes(wire.frame(message)) for message in sent)
    unframer = wire.commands()
    assert [message for piece in cut(data, sizes) for message in unframer.feed(piece)] == sent


@given(st.lists(events, max_size=5))
def test_events_arrive_byte_by_byte(sent: list[object]) -> None:
    data = b"".join(bytes(wire.frame(message)) for message in sent)
    unframer = wire.events()
    received = [message for byte in data for message in unframer.feed(bytes([byte]))]
    assert received == sent


@given(st.binary(max_size=60))
def test_nonsense_gives_an_error_or_waits_for_more(data: bytes) -> None:
    with suppress(wire.WireError):
        assert list(wire.commands().feed(data)) == []


@given(commands, st.data())
def test_a_flipped_byte_never_crashes(command: object, data: st.DataObject) -> None:
    frame = wire.frame(command)
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] ^= data.draw(st.integers(1, 255))
    with suppress(wire.WireError):
        list(wire.commands().feed(bytes(frame)))


def test_a_frame_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(wire.WireError, match="at most"):
        list(wire.events().feed((wire.MAX_FRAME + 1).to_bytes(4, "big")))


def test_an_image_of_the_wrong_length_is_no_image() -> None:
    with pytest.raises(ValueError, match="no 2×2 RGB image"):
        Image(2, 2, "RGB", bytes(11))
    good = bytes(wire.frame(Attach("j", 0, "input", Image(2, 2, "L", b"\x01" * 4))))
    with pytest.raises(wire.WireError):
        list(wire.commands().feed(good.replace(b"\xa5width\x02", b"\xa5width\x03")))
