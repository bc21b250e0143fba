"""What the OpenAI dialect says of itself: valid, and true of requests made up from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import schemathesis
from openapi_spec_validator import validate

from server.jobs.intake import Draft
from server.jobs.service import Update
from tests.server.dialects.easel import STAND
from tests.server.dialects.made_up import few, hold, made_up_for
from tests.server.dialects.openai_easel import APP, Easel, send


class Lenient(Easel):
    """Takes any file for a picture."""

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        yield self._updates(draft)


schema = made_up_for(APP)


def test_the_description_is_valid():
    page = send("/openapi.json", method="GET").json()
    validate(page)
    for path in ("generations", "edits"):
        answers = page["paths"][f"/images/{path}"]["post"]["responses"]["200"]["content"]
        assert answers.keys() == {"application/json", "text/event-stream"}


@schema.parametrize()
@few
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    STAND.easel = Lenient()
    hold(case)
