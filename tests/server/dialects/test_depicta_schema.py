"""What the Depicta dialect says of itself: valid, and true of requests made up from it."""

from dataclasses import replace
from pathlib import Path

import schemathesis
from openapi_spec_validator import validate
from starlette.types import ASGIApp

from server.dialects import depicta
from server.history.database import Database
from server.history.records import Record
from server.history.store import Store
from server.inputs.uploads import Uploads
from server.jobs.catalog import Catalog
from server.settings.tables import Config
from tests.server.dialects.gallery import LIMITS, Exhibition
from tests.server.dialects.made_up import Web, few, hold, made_up_for

CONFIG = Config.model_validate(
    {"model": [{"id": "sketch", "family": "toy", "native": ["64x64"], "max_inputs": 9}]}
)


class Forgetful(Store):
    """Under no key was anything answered: made-up requests share theirs by chance."""

    async def under(self, key: str) -> Record | None:
        return None


def app() -> ASGIApp:
    place = Exhibition()
    place.gallery.store = Forgetful(Database(Path("nowhere")), days=1, keep_prompts=False)
    front = replace(place.front, catalog=Catalog.of(CONFIG), jobs=place.gallery.store)
    return depicta.build(replace(front, uploads=Uploads(LIMITS.image_bytes, Web())))


schema = made_up_for(app())


def test_the_description_is_valid():
    validate(Exhibition().get("/openapi.json").json())


@schema.parametrize()
@few
def test_made_up_requests_are_answered_as_described(case: schemathesis.Case):
    hold(case)
