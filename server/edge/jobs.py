"""The native route by which a job is followed, in whatever dialect it was asked for.

Knows no dialect.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.edge.delivery import EventStream, left, unless_gone
from server.errors import BadRequest, Expired, NotFound
from server.history.news import Event, News, Tale
from server.history.store import Jobs

LAST_SEEN = "Last-Event-ID"


def build(news: News, jobs: Jobs) -> APIRouter:
    """`GET /jobs/{job}/events`: what happened to a job and still does, as an event stream."""
    router = APIRouter(tags=["jobs"])

    async def events(request: Request, job: str) -> Response:
        """Events of a job, until it is over. `Last-Event-ID` leaves out what was seen before."""
        name = job.replace("-", "").lower()
        seen = _seen(request)
        tale = news.of(name)
        if tale is None:
            if await jobs.get(name):
                raise Expired("the events of a job are kept for 10 minutes after its end")
            raise NotFound("there is no such job", param="id")
        if tale.ended is not None and seen >= tale.told:
            return Response(status_code=204)  # which tells a browser not to come back
        return Following(tale, seen)

    said = {
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The job is over, and its last event was seen."},
        400: {"description": "Last-Event-ID is no number."},
        404: {"description": "There is no such job."},
        410: {"description": "The job is over too long."},
        503: {"description": "Jobs cannot be looked up now."},
    }
    router.add_api_route("/jobs/{job}/events", events, response_class=Response, responses={**said})
    return router


def _seen(request: Request) -> int:
    text = request.headers.get(LAST_SEEN, "").strip() or "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadRequest(f"{LAST_SEEN}: must be the id of an event", param=LAST_SEEN)
    return int(text)


class Following(Response):
    """The events of a job, told to one client."""

    media_type = "text/event-stream"

    def __init__(self, tale: Tale, seen: int) -> None:
        super().__init__()
        self._tale = tale
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = EventStream(send)
        await unless_gone(self._tell(stream), left(receive), stream.keep_alive())

    async def _tell(self, stream: EventStream) -> None:
        await stream.open()
        async for event in self._tale.after(self._seen):
            await _send(stream, event)
        await stream.end()


async def _send(stream: EventStream, event: Event) -> None:
    await stream.event(event.facts, event.name, str(event.number))
