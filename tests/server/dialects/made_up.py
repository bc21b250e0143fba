"""Requests that are made up from what an application says of itself, for the tests of dialects."""

import re
from typing import Any, TypeAlias

import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from starlette.types import ASGIApp

from server.edge import fields
from server.errors import FetchFailed
from tests.server.dialects.easel import PNG

Schema: TypeAlias = Any
# A form has texts only, so that what was made up to be no number may well read as one.
IN_FORMS = ("negative_data_rejection",)

load_all_checks()
for kind in ("png", "jpeg", "webp"):
    schemathesis.openapi.media_type(f"image/{kind}", st.just(PNG))

few = settings(
    max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def made_up_for(app: ASGIApp) -> Schema:
    """To parametrize a test by the operations of an application."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    schema.config.generation.allow_x00 = False  # JSON Schema has no short word for "no NUL"
    return schema


def hold(case: schemathesis.Case, *but: str) -> None:
    """Send it, and hold the answer against the description; all checks count but these."""
    form = (case.media_type or "").startswith("multipart/")
    names = (*but, *(IN_FORMS if form else ()))
    case.call_and_validate(excluded_checks=[CHECKS.get_one(name) for name in names])


class Web:
    """A network on which every address leads to a picture, and nothing else does."""

    async def fetch(self, url: str, *, param: str) -> bytes:
        if not re.fullmatch(fields.WEB_URL, url):
            raise FetchFailed("could not fetch the image", param=param)
        return PNG
