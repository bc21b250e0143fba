"""Depicta's answers: what was painted, jobs and refusals as its clients read them.

An answer is kept as what never changes, the ids of its files, and its links are signed each time it
is given. Knows nothing of requests.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.dialects.depicta_shapes import Document
from server.edge import web
from server.edge.front import Url
from server.edge.gate import request_id
from server.errors import (
    BadRequest,
    Expired,
    FetchOff,
    Mistake,
    Refusal,
    UnknownModel,
    Unprocessable,
    WorkerDied,
)
from server.history.records import Record
from server.jobs.intake import Notice
from server.jobs.listing import NOTHING
from server.results.artifacts import Artifact

JOB_ID = "X-Depicta-Job-Id"
INVALID = "The request contains invalid or missing fields."
STATES = {"cancelled": "failed"}  # ours that Depicta has another word for
OPERATIONS = {"generate": "generate", "edit": "edit", "inpaint": "edit"}

Link: TypeAlias = Callable[[Artifact], Url]


@dataclass(frozen=True, slots=True)
class Kept:
    """What an answer says, without its links.

    Attributes:
        id: of the job.
        pictures: of each image, its files by format; the id of the artifact, and bytes.
        seconds: that painting took; not kept, for an answer given again has not been painted.
    """

    id: str
    model: str
    seeds: tuple[int, ...]
    pictures: tuple[Mapping[str, tuple[str, int]], ...]
    warnings: tuple[tuple[str, str], ...]
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])

    def written(self) -> dict[str, Any]:
        """As it is kept with its job."""
        return {"seeds": self.seeds, "pictures": self.pictures, "warnings": self.warnings}

    @classmethod
    def of(cls, record: Record) -> "Kept | None":
        """That of a job; None if it has none."""
        if record.answer is None:
            return None
        pictures = (
            {kind: (str(file[0]), int(file[1])) for kind, file in each.items()}
            for each in record.answer["pictures"]
        )
        warnings = ((str(param), str(message)) for param, message in record.answer["warnings"])
        seeds = tuple(record.answer["seeds"])
        return cls(record.id, record.model, seeds, tuple(pictures), tuple(warnings))

    def headers(self) -> dict[str, str]:
        """What is said of it beside the body."""
        notices = [Notice(param, message) for param, message in self.warnings]
        seed = {"X-Limner-Seed": str(self.seeds[0])}
        told = web.warning_header(notices) | web.timing_header(self.seconds)
        return {JOB_ID: hyphened(self.id)} | seed | told


def generation(kept: Kept, link: Link) -> Document:
    """The whole answer, its links signed now.

    Raises:
        Expired: its files are kept no longer. Unstored: no link can be signed.
    """
    first, *others = [
        {kind: _variant(kind, *file, link) for kind, file in each.items()} for each in kept.pictures
    ]
    document: Document = {
        "ai_generated": True,
        "balance_eur": NOTHING,
        "cost_eur": NOTHING,
        "formats": first,
        "id": hyphened(kept.id),
        "image_hash": first["png"]["hash"],
        "image_url": first["png"]["url"],
        "model": kept.model,
    }
    if others:
        pngs = [each["png"] for each in (first, *others)]
        document["image_hashes"] = [png["hash"] for png in pngs]
        document["image_urls"] = [png["url"] for png in pngs]
    return document


def _variant(kind: str, name: str, size: int, link: Link) -> Document:
    artifact = Artifact.called(name)
    url = link(artifact)
    return {
        "expires_at": moment(url.expires),
        "format": kind,
        "hash": artifact.sha256,
        "size_bytes": size,
        "url": url.text,
    }


def job(record: Record, link: Link) -> Document:
    """A job as it stands, its result inside and at the top."""
    document: Document = {
        "job_id": hyphened(record.id),
        "status": STATES.get(record.state, record.state),
        "created_at": moment(record.created),
        "model": record.model,
        "operation": OPERATIONS.get(record.task, record.task),
    }
    if record.finished is not None:
        document["finished_at"] = moment(record.finished)
    if document["status"] == "failed":
        return document | {"error": record.outcome or "cancelled"}
    kept = Kept.of(record) if record.state == "completed" else None
    if kept is None:
        return document
    try:
        result = generation(kept, link)
    except Expired as late:
        return document | {"message": late.message}
    top = ("formats", "image_url", "image_hash")
    return document | {"result": result} | {key: result[key] for key in top}


def moment(seconds: float) -> str:
    """A time as ISO 8601 says it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hyphened(job: str) -> str:
    """A job's id as a UUID is written."""
    return str(uuid.UUID(job))


def plain_id(text: str) -> str:
    """A job's id from how it was written; "" if it is none."""
    try:
        return uuid.UUID(text).hex if len(text) in (32, 36) else ""
    except ValueError:
        return ""


# -- Refusals -------------------------------------------------------------------------------------


def render_error(refusal: Refusal) -> Response:
    """A refusal as Depicta's clients read it."""
    return Complaint(refusal)


def told(refusal: Refusal) -> tuple[int, str]:
    """The status and the code that Depicta has for a refusal."""
    match refusal:
        case BadRequest() | UnknownModel() | FetchOff() | Expired() if refusal.param:
            return 422, "validation_error"
        case BadRequest():
            return 400, "bad_request"
        case Unprocessable():
            return 422, "model_not_capable"
        case WorkerDied():
            return 502, refusal.code
        case _:
            return refusal.status, refusal.code


def error_document(refusal: Refusal) -> Document:
    """`{"error", "message", "details"}`: the last says what is wrong with which field."""
    code = told(refusal)[1]
    if code != "validation_error":
        return {"error": code, "message": web.message_of(refusal, refusal.param)}
    return {"error": code, "message": INVALID, "details": dict(_details(refusal))}


def _details(refusal: Refusal) -> Iterator[tuple[str, str]]:
    mistakes = refusal.mistakes if isinstance(refusal, BadRequest) else ()
    for mistake in mistakes[:10]:
        yield web.clipped(_path(mistake), 2 * web.ECHO_CHARS), web.clipped(mistake.message, 100)
    if not mistakes and refusal.param:
        message = refusal.message.removeprefix(f"{refusal.param}: ")
        yield (
            web.clipped(refusal.param, 2 * web.ECHO_CHARS),
            web.clipped(message, web.MESSAGE_BYTES),
        )


def _path(mistake: Mistake) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in mistake.path)
    return "".join(steps).lstrip(".")


class Complaint(Response):
    """A refusal that says the id of its request, which only the request's scope knows."""

    media_type = "application/json"

    def __init__(self, refusal: Refusal) -> None:
        self._document = error_document(refusal)
        plain = web.refuse(refusal, self._document)
        super().__init__(plain.body, told(refusal)[0], dict(plain.headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = {"request_id": f"req_{request_id(scope)}"}
        self.body = json.dumps(self._document | known).encode("ascii")
        self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)
