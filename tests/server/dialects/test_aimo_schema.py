"""What the AIMO dialect says of itself: valid, and true of requests made up from it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.checks import load_all_checks

from server.dialects import aimo
from server.edge import fields
from server.errors import FetchFailed
from server.inputs.uploads import Uploads
from server.work.intake import Draft
from server.work.service import Update
from tests.server.dialects.easel import LIMITS, PNG, STAND, Easel, front, send


class Lenient(Easel):
    """Has every model, and takes any file for a picture."""

    def expect(self, model: str, canvases: int) -> None:
        pass

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        yield self._updates(draft)


class Web:
    """A network on which every address leads to a picture, and nothing else does."""

    async def fetch(self, url: str, *, param: str) -> bytes:
        if not re.fullmatch(fields.WEB_URL, url):
            raise FetchFailed("could not fetch the image", param=param)
        return PNG


APP = aimo.build(replace(front(STAND), uploads=Uploads(LIMITS.image_bytes, Web())))
load_all_checks()
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)
schema.config.generation.allow_x00 = False  # JSON Schema has no short word for "no NUL"


def test_the_description_is_valid():
    validate(send("/openapi.json", method="GET").json())


@schema.parametrize()
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    STAND.easel = Lenient()
    case.call_and_validate()
