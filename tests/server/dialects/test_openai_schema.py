"""What the OpenAI dialect says of itself: valid, and true of requests made up from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.checks import CHECKS, load_all_checks

from server.work.intake import Draft
from server.work.service import Update
from tests.server.dialects.easel import STAND
from tests.server.dialects.openai_easel import APP, Easel, send


class Lenient(Easel):
    """Takes any file for a picture."""

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        yield self._updates(draft)


load_all_checks()
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)
schema.config.generation.allow_x00 = False  # JSON Schema has no short word for "no NUL"
# A form has texts only, so that what was made up to be no number may well read as one.
IN_FORMS = [CHECKS.get_one("negative_data_rejection")]


def test_the_description_is_valid():
    page = send("/openapi.json", method="GET").json()
    validate(page)
    for path in ("generations", "edits"):
        answers = page["paths"][f"/images/{path}"]["post"]["responses"]["200"]["content"]
        assert answers.keys() == {"application/json", "text/event-stream"}


@schema.parametrize()
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    STAND.easel = Lenient()
    form = (case.media_type or "").startswith("multipart/")
    case.call_and_validate(excluded_checks=IN_FORMS if form else [])
