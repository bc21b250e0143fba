"""Files made to hurt: none is read, none costs memory, and no child is lost over them."""

import asyncio
import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL.Image
import psutil
import pytest

from models.contract import Image
from server.errors import BadImage
from server.images.decode_child import ChildDied
from server.images.pictures import DecodeLimits, Decoders

PEAK = 256 * 2**20  # bytes; of a child that is fed bombs
GROWTH = 16 * 2**20  # bytes; of the server meanwhile


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG with the given header, whatever the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0 if depth == 1 else 2, 0, 0, 0)
    idat = chunk(b"IDAT", data or zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + idat + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """That many zero bytes, deflated, without ever holding them."""
    deflate, block = zlib.compressobj(), bytes(2**20)
    parts = [deflate.compress(block) for _ in range(size // 2**20)]
    return b"".join([*parts, deflate.compress(bytes(size % 2**20)), deflate.flush()])


def saved(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    frames = [PIL.Image.new("RGB", (16, 16), (i * 9, 0, 0)) for i in range(20)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=10)


def webp_claiming(width: int, height: int) -> bytes:
    """A small WebP whose canvas is said to be larger."""
    file = bytearray(saved(PIL.Image.new("RGBA", (8, 8)), "WEBP", exif=b"Exif\0\0II*\0"))
    assert file[12:16] == b"VP8X"
    file[24:27] = (width - 1).to_bytes(3, "little")
    file[27:30] = (height - 1).to_bytes(3, "little")
    return bytes(file)


def jpeg_claiming(side: int) -> bytes:
    file = saved(PIL.Image.new("RGB", (8, 8)), "JPEG")
    at = file.index(b"\xff\xc0") + 5
    return file[:at] + struct.pack(">HH", side, side) + file[at + 4 :]


NOISE = PIL.Image.effect_noise((256, 256), 60).convert("RGB")
BOMBS = {
    "PNG of 9400²": (png(9400, 9400, data=zeros(9400 * 28201)), "too large"),
    "PNG of 7000²": (png(7000, 7000, data=zeros(7000 * 21001)), "at most 33177600 pixels"),
    "PNG of 30000², one bit": (png(30000, 30000, depth=1, data=zeros(30000 * 3751)), "too large"),
    "PNG header lie": (png(60000, 60000), "too large"),
    "PNG header lie within the limits": (png(8000, 4000), "damaged"),
    "PNG of 1 × 4,000,000": (png(1, 4_000_000, data=zeros(16_000_000)), "8192 pixels a side"),
    "PNG of 4,000,000 × 1": (png(4_000_000, 1, data=zeros(12_000_001)), "8192 pixels a side"),
    "PNG of no width": (png(0, 5), "damaged"),
    "zTXt bomb": (png(8, 8, extra=chunk(b"zTXt", b"a\0\0" + zeros(64 * 2**20))), "damaged"),
    "70 MiB of text": (png(8, 8, extra=chunk(b"tEXt", b"a\0" + bytes(2**20)) * 70), "damaged"),
    "WebP header lie": (webp_claiming(16383, 16383), "too large"),
    "WebP header lie, VP8X's most": (webp_claiming(2**24, 2**8), "too large"),
    "WebP of 1 × 16383": (saved(PIL.Image.new("RGB", (1, 16383)), "WEBP"), "8192 pixels a side"),
    "animated WebP": (animated("WEBP"), "animated"),
    "animated PNG": (animated("PNG"), "animated"),
    "animated GIF": (animated("GIF"), "GIF"),
    "JPEG header lie": (jpeg_claiming(65535), "too large"),
    "half a JPEG": (saved(NOISE, "JPEG")[:5000], "damaged"),
    "half a PNG": (saved(NOISE, "PNG")[:5000], "damaged"),
    "half a WebP": (saved(NOISE, "WEBP")[:3000], "damaged"),
    "only a PNG's first bytes": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "only a JPEG's first bytes": (b"\xff\xd8\xff", "damaged"),
    "only a WebP's first bytes": (b"RIFF\xff\xff\xff\xffWEBPVP8 ", "damaged"),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def only_child() -> psutil.Process:
    (child,) = (p for p in psutil.Process().children() if "server.images.decoder" in p.cmdline())
    return child


def peak(pid: int) -> int:
    """The most bytes that a process has had in memory so far."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def reason(decoders: Decoders, file: bytes) -> str:
    with pytest.raises(BadImage) as refusal:
        await decoders.image(file, param="image")
    return refusal.value.message


def test_bombs_are_refused_and_cost_no_memory(runner: asyncio.Runner) -> None:
    async def story() -> None:
        async with Decoders(DecodeLimits(children=1)) as decoders:
            child, before = only_child(), psutil.Process().memory_info().rss
            for name, (file, expected) in BOMBS.items():
                assert expected in await reason(decoders, file), name
                assert peak(child.pid) <= PEAK, name
            assert only_child() == child
            assert psutil.Process().memory_info().rss - before <= GROWTH

    runner.run(story())


def test_a_profile_that_inflates_is_not_inflated(runner: asyncio.Runner) -> None:
    """Pillow drops the profile; whether the picture is then read is its own affair."""
    picture = saved(PIL.Image.new("RGB", (8, 8)), "PNG")
    file = picture[:33] + chunk(b"iCCP", b"a\0\0" + zeros(200 * 2**20)) + picture[33:]

    async def story() -> None:
        async with Decoders(DecodeLimits(children=1)) as decoders:
            child = only_child()
            assert await outcome(decoders, file) in ("image", "refused")
            assert peak(child.pid) <= PEAK
            assert only_child() == child

    runner.run(story())


async def outcome(decoders: Decoders, file: bytes) -> str:
    try:
        assert isinstance(await decoders.image(file, param="image"), Image)
    except BadImage as error:
        return "lost" if isinstance(error.__cause__, (ChildDied, TimeoutError)) else "refused"
    return "image"


def mutated(file: bytes, random: random.Random) -> bytes:
    """Some bytes changed, a piece taken out, doubled or cut off."""
    broken = bytearray(file)
    for _ in range(random.randint(1, 12)):
        broken[random.randrange(len(broken))] = random.choice([0, 1, 127, 128, 255])
    at, length = random.randrange(len(broken)), random.randrange(1, 40)
    match random.randrange(4):
        case 0:
            del broken[at : at + length]
        case 1:
            broken[at:at] = broken[at : at + length]
        case 2:
            del broken[at:]
        case _:
            pass
    return bytes(broken)


def resealed(file: bytes) -> bytes:
    """With right checksums if it is a PNG, lest they keep the damage from the parsers."""
    if not file.startswith(b"\x89PNG"):
        return file
    sealed, at = file[:8], 8
    while at + 12 <= len(file):
        end = at + 8 + int.from_bytes(file[at : at + 4], "big")
        sealed += file[at:end] + struct.pack(">I", zlib.crc32(file[at + 4 : end]))
        at = end + 4
    return sealed


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_mutated_files_are_read_or_refused(runner: asyncio.Runner, kind: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    profile = bytes(range(256))
    file = saved(NOISE.resize((40, 30)), kind, exif=exif, icc_profile=profile)

    async def story() -> list[str]:
        async with Decoders(DecodeLimits(children=1)) as decoders:
            child, dice = only_child(), random.Random(kind)
            files = [file, *(mutated(file, dice) for _ in range(200))]
            outcomes = [await outcome(decoders, resealed(f)) for f in files]
            assert only_child() == child
            return outcomes

    outcomes = runner.run(story())
    assert outcomes.pop(0) == "image"
    assert set(outcomes) <= {"image", "refused"}
