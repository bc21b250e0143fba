"""What OpenAI's own client makes of our answers: exception classes, repetition, leaving."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
import uvicorn
from openai import AsyncOpenAI

from server import errors
from server.dialects import openai as dialect
from server.errors import Refusal
from server.jobs.intake import Draft
from server.jobs.service import Admitted, Progress, Update
from tests.server.dialects import easel
from tests.server.dialects.easel import STAND, every_refusal
from tests.server.dialects.openai_easel import APP, Easel

CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


class Counted(Easel):
    """Counts how often it was asked."""

    asked = 0

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        self.asked += 1
        async with super().paint(draft) as updates:
            yield updates


def ask(
    painter: Counted, call: Callable[[AsyncOpenAI], Awaitable[Any]], retries: int = 0
) -> openai.APIError:
    async def talk() -> openai.APIError:
        transport = httpx2.ASGITransport(app=APP)
        async with (
            httpx2.AsyncClient(transport=transport) as http,
            AsyncOpenAI(
                base_url="http://test", api_key="x", http_client=http, max_retries=retries
            ) as client,
        ):
            with pytest.raises(openai.APIError) as raised:
                await call(client)
            return raised.value

    STAND.easel = painter
    return asyncio.run(talk())


async def generate(client: AsyncOpenAI) -> Any:
    return await client.images.generate(model="sketch", prompt="x")


async def stream(client: AsyncOpenAI) -> Any:
    events = await client.images.generate(model="sketch", prompt="x", stream=True)
    return [event async for event in events]


@pytest.mark.parametrize("kind", every_refusal())
def test_every_refusal_is_the_exception_it_should_be(kind: type[Refusal]):
    error = ask(Counted(breaks=kind("no", param="n")), generate)
    assert isinstance(error, openai.APIStatusError)
    assert type(error) is CLASSES.get(kind.status, openai.APIStatusError)
    assert error.status_code == kind.status
    assert error.param == "n"
    assert error.type


@pytest.mark.parametrize(
    ("refusal", "asked"),
    [
        (errors.Overloaded("later"), 2),
        (errors.OutOfMemory("too large"), 1),
        (errors.ModelFailed("no"), 1),
        (errors.WorkerDied("twice"), 1),
        (errors.BadRequest("no"), 1),
    ],
)
def test_only_what_may_go_well_later_is_repeated(refusal: Refusal, asked: int):
    painter = Counted(breaks=refusal)
    ask(painter, generate, retries=1)
    assert painter.asked == asked


def test_an_error_in_a_stream_is_raised():
    error = ask(Counted(misses=(0,)), stream)
    assert type(error) is openai.APIError
    assert (error.message, error.code) == ("too large for the device", "insufficient_memory")


# -- Leaving --------------------------------------------------------------------------------------


class Patient(Easel):
    """Paints for four seconds, unless it is left."""

    def __init__(self) -> None:
        super().__init__()
        self.left = threading.Event()

    @asynccontextmanager
    async def paint(self, draft: Draft) -> AsyncIterator[AsyncIterator[Update]]:
        try:
            yield self._patiently()
        finally:
            self.left.set()

    async def _patiently(self) -> AsyncIterator[Update]:
        yield Admitted("img-1", 1, ())
        for step in range(200):
            await asyncio.sleep(0.02)
            yield Progress(0, step, 200, None)


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def url(patient: Patient) -> Iterator[str]:
    app = dialect.build(easel.front(patient))
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_gives_up_is_painted_for_no_longer(
    url: str, patient: Patient, streamed: bool
):
    async def talk() -> None:
        async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0, timeout=0.3) as client:
            with pytest.raises(openai.APITimeoutError):
                await (stream if streamed else generate)(client)

    asyncio.run(talk())
    assert patient.left.wait(2)
