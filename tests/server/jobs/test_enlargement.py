"""Enlarging: sizes that keep their limits, and pixels that stay what they were."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract import Image
from server.errors import BadImage, ImageTooLarge, Unavailable
from server.images.pictures import DecodeLimits, Decoders, Picture
from server.jobs.backlog import Backlog
from server.jobs.catalog import Catalog
from server.jobs.dispatch import Dispatch
from server.jobs.enlargement import Cutting, Enlarged, Wish, enlarged, planned
from server.jobs.recorder import End, Entry
from server.jobs.service import Service
from server.notices import Notice
from server.settings.tables import Config, LimitsTable
from server.sizes import Size

MOST = 16_777_216
CONFIG = Config.model_validate({"model": [{"id": "toy", "family": "toy", "native": ["64x64"]}]})


@given(
    st.integers(1, 8192),
    st.integers(1, 8192),
    st.floats(2, 4, allow_nan=False),
)
def test_a_plan_keeps_shape_and_limit(width: int, height: int, scale: float):
    size = Size(width, height)
    if size.area > MOST:
        with pytest.raises(ImageTooLarge, match=r"^images\[0\]: the image is "):
            planned(size, scale, MOST)
        return
    target, notices = planned(size, scale, MOST)
    assert target.area <= MOST
    used = min(scale, (MOST / size.area) ** 0.5)
    assert max(0, width * used - 1) <= target.width <= width * used + 1e-3
    assert max(0, height * used - 1) <= target.height <= height * used + 1e-3
    assert target.width >= width
    assert bool(notices) == (used < scale)


def test_whole_scales_are_whole():
    assert planned(Size(333, 100), 3, MOST) == (Size(999, 300), ())
    assert planned(Size(4096, 2048), 2, MOST)[0] == Size(5792, 2896)
    assert planned(Size(4096, 4096), 4, MOST)[0] == Size(4096, 4096)


def test_what_was_reduced_is_said():
    [notice] = planned(Size(4096, 2048), 2, MOST)[1]
    assert notice.param == "scale"
    assert notice.message == "asked for 2, used 1.414: the picture has at most 16777216 pixels"


def test_it_is_lanczos():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    wanted = PIL.Image.fromarray(pixels).resize((60, 40), PIL.Image.Resampling.LANCZOS)
    found = enlarged(Image(30, 20, "RGB", pixels.tobytes()), Size(60, 40))
    assert found.pixels == wanted.tobytes()


def png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    PIL.Image.new(mode, size, 90).save(out, "PNG")
    return out.getvalue()


class Notebook:
    """A recorder that writes down what it hears."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.seeds: list[int | None] = []
        self.ends: list[End] = []

    def admitted(self, entry: Entry, account: str, at: float) -> None:
        self.entries.append(entry)

    def progressed(self, job: str, index: int, step: int, steps: int) -> None:
        pass

    def painted(self, job: str, index: int, seed: int | None) -> None:
        self.seeds.append(seed)

    def ended(self, job: str, end: End) -> None:
        self.ends.append(end)


T = TypeVar("T")


def with_service(
    ask: Callable[[Service], Awaitable[T]], notebook: Notebook | None = None, **limits: int
) -> T:
    """By a real service and its real decoders, with nobody who paints."""

    async def talk() -> T:
        dispatch, books = Dispatch([], Backlog(1)), [notebook or Notebook()]
        catalog, table = Catalog.of(CONFIG), LimitsTable.model_validate(limits)
        async with Decoders(DecodeLimits(children=1)) as decoders:
            return await ask(Service(catalog, table, decoders, dispatch, books, preview_steps=1))

    return asyncio.run(talk())


def served(
    data: bytes, scale: float = 2.0, notebook: Notebook | None = None, **limits: int
) -> Enlarged:
    ignored = (Notice("creativity", "not used"),)
    wish = Wish(dialect="venice", image=data, scale=scale, max_pixels=MOST, ignored=ignored)
    return with_service(lambda service: service.enlarge(wish), notebook, **limits)


def cut_out(data: bytes, notebook: Notebook | None = None) -> Picture:
    wish = Cutting(dialect="venice", image=data)
    return with_service(lambda service: service.cut_out(wish), notebook)


def test_what_is_enlarged_is_recorded():
    notebook = Notebook()
    answer = served(png((100, 50)), 2.5, notebook)
    assert notebook.entries == [
        Entry(
            id=answer.id, dialect="venice", model="lanczos", task="enlarge",
            output=Size(250, 125), painted=Size(100, 50),
        )
    ]  # fmt: skip
    assert notebook.seeds == [None]
    [end] = notebook.ends
    assert (end.state, end.code, end.painted) == ("completed", "", 1)
    assert end.seconds == answer.seconds
    assert end.seconds["total"] > end.seconds["scale"] + end.seconds["encode"] > 0


def test_what_cannot_be_cut_out_is_recorded_as_failed():
    notebook = Notebook()
    with pytest.raises(Unavailable):
        cut_out(png((70, 90)), notebook)
    [entry] = notebook.entries
    assert (entry.task, entry.output) == ("cutout", Size(70, 90))
    [end] = notebook.ends
    assert (end.state, end.code, end.painted) == ("failed", "unavailable", 0)


def test_what_is_no_image_is_not_taken_on():
    notebook = Notebook()
    for ask in (served, cut_out):
        with pytest.raises(BadImage):
            ask(b"<svg></svg>", notebook=notebook)
    assert not notebook.entries


def test_the_service_enlarges_without_a_worker():
    answer = served(png((100, 50)), 2.5)
    with PIL.Image.open(io.BytesIO(answer.picture.data)) as opened:
        assert (opened.format, opened.size, opened.mode) == ("PNG", (250, 125), "RGB")
    assert [notice.param for notice in answer.notices] == ["creativity"]


def test_transparency_and_the_servers_own_limit_are_said():
    answer = served(png((1000, 600), "LA"), 4.0, output_pixels=1_000_000)
    assert (answer.picture.width, answer.picture.height) == (1290, 774)
    assert [notice.param for notice in answer.notices] == ["creativity", "scale", "images[0]"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<svg></svg>", BadImage),
        (png((300, 300))[:100], BadImage),
        (png((8193, 64)), ImageTooLarge),
        (png((5000, 4000)), ImageTooLarge),
    ],
)
def test_what_is_no_image_or_too_large_is_refused(data: bytes, kind: type[BadImage]):
    with pytest.raises(BadImage) as caught:
        served(data)
    assert type(caught.value) is kind
    assert caught.value.param == "images[0]"
