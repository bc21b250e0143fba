"""What the Venice dialect says of itself: valid, and true of requests made up from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import schemathesis
from openapi_spec_validator import validate

from server.dialects import venice
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog
from server.jobs.intake import Draft
from server.jobs.service import Update
from tests.server.dialects.easel import LIMITS, front
from tests.server.dialects.made_up import Web, few, hold, made_up_for
from tests.server.dialects.venice_stand import CONFIG, STAND, Easel, send

NOT_YET = "/image/background-remove"  # is there, and answers 503


class Lenient(Easel):
    """Has every model, and takes any file for a picture."""

    def expect(self, model: str, canvases: int) -> None:
        pass

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        yield self._updates(draft)

    def _look(self, data: bytes) -> None:
        pass


uploads = Uploads(LIMITS.image_bytes, Web())
schema = made_up_for(
    venice.build(replace(front(STAND), catalog=Catalog.of(CONFIG), uploads=uploads))
)


def test_the_description_is_valid():
    validate(send("/openapi.json", method="GET").json())


@schema.parametrize()
@few
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    STAND.easel = Lenient()
    hold(case, *(["not_a_server_error"] if case.path == NOT_YET else []))
