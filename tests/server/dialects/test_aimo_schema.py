"""What the AIMO dialect says of itself: valid, and true of requests made up from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import schemathesis
from openapi_spec_validator import validate

from server.dialects import aimo
from server.inputs.uploads import Uploads
from server.jobs.intake import Draft
from server.jobs.service import Update
from tests.server.dialects.easel import LIMITS, STAND, Easel, front, send
from tests.server.dialects.made_up import Web, few, hold, made_up_for


class Lenient(Easel):
    """Has every model, and takes any file for a picture."""

    def expect(self, model: str, canvases: int) -> None:
        pass

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        yield self._updates(draft)


schema = made_up_for(aimo.build(replace(front(STAND), uploads=Uploads(LIMITS.image_bytes, Web()))))


def test_the_description_is_valid():
    validate(send("/openapi.json", method="GET").json())


@schema.parametrize()
@few
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    STAND.easel = Lenient()
    hold(case)
