"""What the service refuses before any work is done, with an engine that paints nothing."""

import asyncio

import pytest

from server.errors import BadRequest, Overloaded, UnknownModel
from server.images.pictures import DecodeLimits, Decoders
from server.jobs.backlog import Backlog
from server.jobs.catalog import Catalog
from server.jobs.dispatch import Dispatch
from server.jobs.intake import Draft
from server.jobs.service import Service
from server.settings.tables import Config, LimitsTable
from tests.server.jobs.test_dispatch import Script

CONFIG = Config.model_validate({"model": [{"id": "toy", "family": "toy", "native": ["64x64"]}]})


def service(waiting: int, room: int) -> Service:
    """`room` is that of a backlog in which others may be waiting already."""
    limits, decoders = LimitsTable(waiting=waiting), Decoders(DecodeLimits(children=1))
    dispatch = Dispatch([Script()], Backlog(room))
    return Service(Catalog.of(CONFIG), limits, decoders, dispatch, preview_steps=1)


def test_more_than_can_ever_wait_is_no_matter_of_time():
    with pytest.raises(BadRequest, match="n must be from 1 to 3, not 4") as refusal:
        service(3, room=3).expect("toy", 4)
    assert refusal.value.param == "n"
    with pytest.raises(Overloaded):
        service(3, room=2).expect("toy", 3)
    with pytest.raises(UnknownModel):
        service(3, room=3).expect("nobody", 4)
    service(3, room=3).expect("toy", 3)


def test_painting_more_than_can_ever_wait_is_refused_alike():
    async def paint(n: int) -> None:
        draft = Draft(dialect="aimo", task="generate", model="toy", prompt="x", n=n)
        async with service(3, room=3).paint(draft):
            pass

    with pytest.raises(BadRequest, match="n must be from 1 to 3, not 4"):
        asyncio.run(paint(4))
