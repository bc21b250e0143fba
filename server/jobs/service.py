"""The story of a request: admit, submit, and for each event encode and yield; then settle.

Joins the other modules and decides nothing itself. A streamed and a plain answer are the same
iterator of updates; the plain one keeps the last. Knows nothing of HTTP.
"""

import asyncio
import json
import logging
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from models.contract import Cancelled, Failed, Fault, Finished, Image, Step
from server.errors import (
    BadMask,
    InternalError,
    ModelFailed,
    OutOfMemory,
    Refusal,
    ShuttingDown,
    Unprocessable,
    WorkerDied,
)
from server.images.pictures import FLATTENED, Decoders, Picture
from server.jobs.catalog import Catalog, Size
from server.jobs.dispatch import Dispatch, Ticket
from server.jobs.enlargement import Cutting, Darkroom, Enlarged, Wish
from server.jobs.finishing import finished, glimpse
from server.jobs.intake import Draft, Notice, Order, check_count, resolve
from server.jobs.preparation import Inputs, Prepared, prepare
from server.jobs.recorder import Entry, Recorder, Telling
from server.settings.tables import LimitsTable

log = logging.getLogger(__name__)

ACCOUNT = "local"  # everybody, until there are keys
PREPARING = 2  # requests whose uploads are in memory at full size, which may be 100 MB an image


@dataclass(frozen=True, slots=True)
class Admitted:
    """The first update of every request: its id, when it was taken on in unix seconds, and what
    is known already of wishes that will not act."""

    id: str
    created: int
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """A canvas went one step on; `preview` is there every few steps."""

    index: int
    step: int
    steps: int
    preview: Picture | None


@dataclass(frozen=True, slots=True)
class Painted:
    """One of the n images, ready to be delivered; `also` in the other formats that were asked for,
    in their order."""

    index: int
    seed: int
    picture: Picture
    also: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Missed:
    """One of the n images that could not be painted."""

    index: int
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The last update of every request: all that its answer says."""

    id: str
    created: int  # unix seconds
    order: Order
    painted: tuple[Painted, ...]  # by index
    missed: tuple[Missed, ...]  # by index
    inputs: tuple[Size, ...]  # of the input images as uploaded, upright
    notices: tuple[Notice, ...]
    seconds: Mapping[str, float]  # "queue"; of the slowest image "paint", "encode"; "total"

    def or_refusal(self) -> "Result":
        """Itself, if any image was painted.

        Raises:
            Refusal: all are missed; then the error of the first of them is the answer.
        """
        if not self.painted:
            raise self.missed[0].refusal
        return self


Update: TypeAlias = Admitted | Progress | Painted | Missed | Result


class Painter(Protocol):
    """What every dialect talks to: the service, or what a test has in its place."""

    def expect(self, model: str, canvases: int) -> None:
        """Raises Refusal if a request for so many images could not be admitted now."""
        ...

    def paint(self, draft: Draft) -> AbstractAsyncContextManager[AsyncIterator[Update]]:
        """Raises Refusal on entering; leaving the block early cancels what is unfinished."""
        ...

    async def enlarge(self, wish: Wish) -> Enlarged:
        """Raises Refusal if the image is none, or too large already."""
        ...

    async def cut_out(self, wish: Cutting) -> Picture:
        """Raises Refusal if the image is none, or there is nobody to do it."""
        ...


async def outcome(painter: Painter, draft: Draft) -> Result:
    """What becomes of a draft in the end.

    Raises:
        Refusal: it was not admitted, or none of its images could be painted.
    """
    async with painter.paint(draft) as updates:
        async for update in updates:
            if isinstance(update, Result):
                return update.or_refusal()
    raise InternalError("the request ended without a result")


class Service:
    """The painter that there is."""

    def __init__(
        self,
        catalog: Catalog,
        limits: LimitsTable,
        decoders: Decoders,
        dispatch: Dispatch,
        recorders: Sequence[Recorder] = (),
        *,
        preview_steps: int,
    ) -> None:
        self.catalog = catalog
        self.limits = limits
        self._decoders = decoders
        self._dispatch = dispatch
        self._recorders = recorders
        self._preview_steps = preview_steps
        self._preparing = asyncio.Semaphore(PREPARING)
        self._darkroom = Darkroom(decoders, limits.output_pixels, recorders, ACCOUNT)

    def expect(self, model: str, canvases: int) -> None:
        """Refuse what could not be admitted now, before any work is done for it.

        Raises:
            Refusal: there is no such model, it cannot be served, or too much is waiting; BadRequest
                if so much can never wait.
        """
        name = self.catalog.find(model).id
        check_count(canvases, self.limits)
        self._dispatch.expect(name, canvases)

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncGenerator[AsyncIterator[Update]]:
        """Admit a request and give its updates; leaving the block early cancels the rest.

        Raises:
            Refusal: it cannot be admitted; nothing has been started.
        """
        began = time.monotonic()
        self.expect(draft.model, draft.n)
        prepared = await self._prepared(draft)
        ticket = self._dispatch.submit(prepared.order.job, ACCOUNT, prepared.images, prepared.mask)
        telling = Telling(self._recorders, Entry.of(prepared.order), ACCOUNT)
        try:
            with telling:
                async with aclosing(self._updates(ticket, prepared, began, telling)) as updates:
                    yield updates
        finally:
            if ticket.open:
                job = prepared.order.job.id
                log.info("id=%s left with %d images unfinished", job, len(ticket.open))
            self._dispatch.cancel(ticket)

    async def enlarge(self, wish: Wish) -> Enlarged:
        """An uploaded image, larger. Nothing is painted, and no worker is asked.

        Raises:
            Refusal: it is no acceptable image, or larger than it may become.
        """
        async with self._preparing:
            return await self._darkroom.enlarge(wish)

    async def cut_out(self, wish: Cutting) -> Picture:
        """What an uploaded image shows, without its background.

        Raises:
            Refusal: it is no acceptable image, or there is nobody to do it.
        """
        async with self._preparing:
            return await self._darkroom.cut_out(wish)

    async def _prepared(self, draft: Draft) -> Prepared:
        """Decode, resolve, scale. Only in here do uploads exist at full size, and few at once."""
        if not draft.images and not draft.mask:
            inputs = Inputs((), None, (), ())
            return prepare(self._resolve(draft, inputs), inputs)
        async with self._preparing:
            inputs = await self._decode(draft)
            order = self._resolve(draft, inputs)
            return await asyncio.to_thread(prepare, order, inputs)

    async def _decode(self, draft: Draft) -> Inputs:
        wanted = self.catalog.find(draft.model).max_inputs
        images: list[Image] = []
        sizes: list[Size] = []
        notices: list[Notice] = []
        for position, data in enumerate(draft.images):
            opened = await self._decoders.open(data, param=f"images[{position}]")
            sizes.append(Size(opened.image.width, opened.image.height))
            if position < wanted:
                images.append(opened.image)
                if opened.flattened:
                    notices.append(Notice(f"images[{position}]", FLATTENED))
        mask = await self._mask(draft)
        own = await self._own_mask(draft) if notices and not mask else None
        if own:
            notices = [Notice("mask", "none was sent: the transparency of the image was taken")]
        found = mask or own
        return Inputs(tuple(images), found, tuple(sizes), tuple(notices), hollow=own is not None)

    async def _mask(self, draft: Draft) -> Image | None:
        if not draft.mask:
            return None
        mask = await self._decoders.mask(draft.mask, param="mask", alpha=draft.alpha_mask)
        if not marks(mask):
            raise BadMask("the mask marks nothing to be repainted", param="mask")
        return mask

    async def _own_mask(self, draft: Draft) -> Image | None:
        """What is transparent in the only image, if that is its mask and the model takes masks."""
        able = "inpaint" in self.catalog.find(draft.model).tasks
        if not (draft.own_mask and able and len(draft.images) == 1):
            return None
        mask = await self._decoders.mask(draft.images[0], param="images[0]", alpha=True)
        return mask if marks(mask) else None

    def _resolve(self, draft: Draft, inputs: Inputs) -> Order:
        mask = inputs.mask
        order = resolve(
            draft,
            self.catalog,
            self.limits,
            inputs=inputs.sizes,
            mask=Size(mask.width, mask.height) if mask else None,
            draw_seed=lambda: secrets.randbelow(2**31),
            new_id=lambda: uuid.uuid4().hex,
            preview_steps=self._preview_steps,
        )
        return replace(order, notices=(*order.notices, *inputs.notices))

    async def _updates(
        self, ticket: Ticket, prepared: Prepared, began: float, telling: Telling
    ) -> AsyncGenerator[Update]:
        order = prepared.order
        painted: list[Painted] = []
        missed: list[Missed] = []
        notes: dict[str, None] = {}  # ordered, and each only once
        spent = {"paint": 0.0, "encode": 0.0}  # by the slowest image
        admitted = Admitted(ticket.job.id, int(time.time()), order.notices)
        yield admitted
        async for event in ticket:
            match event:
                case Step(_, index, step, steps, preview):
                    telling.progressed(index, step, steps)
                    yield Progress(index, step, steps, preview and await glimpse(preview))
                case Finished(_, index, image, took, said):
                    spent["paint"] = max(spent["paint"], took)
                    notes |= dict.fromkeys(said)
                    came = time.monotonic()
                    painted.append(await self._delivered(prepared, index, image))
                    spent["encode"] = max(spent["encode"], time.monotonic() - came)
                    telling.painted(index)
                    yield painted[-1]
                case Failed(_, index, fault):
                    log.error("%s image %d failed: %s", ticket.job.id, index, fault)
                    missed.append(Missed(index, refusal_of(fault)))
                    yield missed[-1]
                case Cancelled(_, index):
                    missed.append(Missed(index, ShuttingDown("cancelled: the server is ending")))
                    yield missed[-1]
        total = time.monotonic() - began
        result = Result(
            id=ticket.job.id,
            created=admitted.created,
            order=order,
            painted=tuple(sorted(painted, key=lambda each: each.index)),
            missed=tuple(sorted(missed, key=lambda each: each.index)),
            inputs=prepared.sizes,
            notices=(*order.notices, *(noticed(note) for note in notes)),
            seconds={"queue": ticket.queued, **spent, "total": total},
        )
        audit(result)
        telling.resulted([each.refusal for each in result.missed], result.seconds)
        yield result

    async def _delivered(self, prepared: Prepared, index: int, image: Image) -> Painted:
        picture, *also = await finished(prepared, index, image)
        return Painted(index, prepared.order.job.seeds[index], picture, tuple(also))


def marks(mask: Image) -> bool:
    """Whether any pixel is to be repainted."""
    return mask.pixels.count(0) < len(mask.pixels)


def noticed(note: str) -> Notice:
    """A worker's note, which starts with the field it is about."""
    param, _, message = note.partition(": ")
    return Notice(param, message)


def refusal_of(fault: Fault) -> Refusal:
    """What a client is told of a fault; the details stay in the log."""
    match fault.kind:
        case "bad_job":
            return Unprocessable("the model cannot do what was asked")
        case "load_failed" | "not_configured":
            return ModelFailed(
                "the model, or a LoRA of it, could not be loaded; the server's log says why"
            )
        case "not_finite":
            return InternalError("the model produced no valid picture (NaN); try another seed")
        case "out_of_memory":
            return OutOfMemory("the picture does not fit the device's memory; try a smaller size")
        case "worker_died":
            return WorkerDied("the painting process died, and died again on the second try")
        case "internal":
            return InternalError("painting failed; the server's log says why")


def audit(result: Result) -> None:
    """One line per request that was painted to its end; never its prompt."""
    job, draft = result.order.job, result.order.draft
    log.info(
        "id=%s dialect=%s user=%s model=%s task=%s size=%dx%d steps=%d painted=%d/%d "
        "queue=%.3f paint=%.3f total=%.3f",
        *(result.id, draft.dialect, json.dumps(draft.user)),
        *(job.model, job.task, job.width, job.height, job.steps),
        *(len(result.painted), len(job.seeds)),
        *(result.seconds["queue"], result.seconds["paint"], result.seconds["total"]),
    )
