"""What the Venice dialect says of itself: valid, and true of requests made up from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.checks import CHECKS, load_all_checks

from server.dialects import venice
from server.inputs.uploads import Uploads
from server.sizes import Size
from server.work.catalog import Catalog
from server.work.intake import Draft
from server.work.service import Update
from tests.server.dialects import venice_stand
from tests.server.dialects.easel import LIMITS, front
from tests.server.dialects.test_aimo_schema import Web
from tests.server.dialects.venice_stand import CONFIG, Stand


class Lenient(venice_stand.Easel):
    """Has every model, and takes any file for a picture."""

    def expect(self, model: str, canvases: int) -> None:
        pass

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        yield self._updates(draft)

    async def measure(self, data: bytes) -> Size:
        return Size(40, 30)


STAND = Stand()
APP = venice.build(
    replace(front(STAND), catalog=Catalog.of(CONFIG), uploads=Uploads(LIMITS.image_bytes, Web()))
)
load_all_checks()
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)
schema.config.generation.allow_x00 = False  # JSON Schema has no short word for "no NUL"
# A form has texts only, so that what was made up to be no number may well read as one.
IN_FORMS = [CHECKS.get_one("negative_data_rejection")]
NOT_YET = [CHECKS.get_one("not_a_server_error")]  # what is there, but answers 503


def test_the_description_is_valid():
    validate(venice_stand.send("/openapi.json", method="GET").json())


@schema.parametrize()
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    STAND.easel = Lenient()
    excluded = IN_FORMS if (case.media_type or "").startswith("multipart/") else []
    excluded = excluded + (NOT_YET if case.path == "/image/background-remove" else [])
    case.call_and_validate(excluded_checks=excluded)
