"""From what was painted to OpenAI's answers: documents, events, errors.

Knows nothing of requests on the wire, nor of how an answer is sent.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from starlette.responses import Response

from server import errors
from server.edge import web
from server.errors import Refusal
from server.images import inline
from server.images.pictures import Picture
from server.jobs.intake import Draft, Notice
from server.jobs.service import Admitted, Missed, Painted, Progress, Result, Update

Document: TypeAlias = dict[str, Any]

# Nothing is counted in tokens; the events must say a number.
USAGE: Mapping[str, Any] = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
# The words that OpenAI has for what is wrong with an image: type and code.
IMAGE_ERROR = "image_generation_user_error"
WORDS: Mapping[type[Refusal], tuple[str, str]] = {
    errors.BadMask: (IMAGE_ERROR, "invalid_mask_image_format"),
    errors.BadImage: (IMAGE_ERROR, "invalid_image_file"),
}
# Clients repeat what failed with 500 and above; these would fail in the same way.
FINAL = (errors.InternalError, errors.ModelFailed, errors.OutOfMemory)
# Where the house has another word for a field.
THEIRS = {"width": "size", "height": "size"}


def render_error(refusal: Refusal) -> Response:
    """A refusal as OpenAI's clients read it."""
    answer = web.refuse(refusal, error_document(refusal))
    if isinstance(refusal, FINAL):
        answer.headers["x-should-retry"] = "false"
    return answer


def error_document(refusal: Refusal) -> Document:
    """`{"error": {"message", "type", "param", "code"}}`, the field named as OpenAI names it."""
    kind, code = _type(refusal.status), refusal.code
    for each, words in WORDS.items():
        if isinstance(refusal, each):
            kind, code = words
    param = refusal.param
    if param and not refusal.message.startswith(f"{param}: "):  # what shapes say is theirs already
        param = theirs(param)
    message = web.message_of(Refusal(web.renamed(refusal, param or "")), param)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return "rate_limit_error" if status == 429 else "invalid_request_error"


def theirs(param: str) -> str:
    """A field of `Draft` in OpenAI's words."""
    return THEIRS.get(param) or re.sub(r"^images(\[\d+\])?$", r"image\1", param)


def named(notices: Iterable[Notice], draft: Draft) -> list[Notice]:
    """Notices in OpenAI's words, or in the synonyms that were sent."""
    return web.named(notices, draft.ignored, lambda param: draft.called.get(param) or theirs(param))


# -- Plain answers --------------------------------------------------------------------------------


def render(result: Result, delivered: Iterable[Document]) -> Document:
    """The whole answer; `delivered` is, for each picture, where its data is."""
    draft = result.order.draft
    prompt = result.order.job.prompt
    revised = {"revised_prompt": prompt} if prompt != draft.prompt else {}
    data = [
        data | revised | {"index": each.index, "seed": each.seed}
        for each, data in zip(result.painted, delivered, strict=True)
    ]
    return {
        "created": result.created,
        "data": data,
        "background": "opaque",
        "output_format": draft.output_format,
        "size": str(result.order.output),
        **({"quality": draft.quality} if draft.quality else {}),
        **_identifier(draft),
        "limner": about(result),
    }


def _identifier(draft: Draft) -> Document:
    return {"safety_identifier": draft.user} if draft.user else {}


def about(result: Result) -> Document:
    """What was done for an answer, and what did not act."""
    job = result.order.job
    return {
        "id": result.id,
        "model": job.model,
        "steps": job.steps,
        "guidance": job.guidance,
        "paint_size": f"{job.width}x{job.height}",
        "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        "missed": [{"index": each.index, **error_document(each.refusal)} for each in result.missed],
        "warnings": [{"param": each.param, "message": each.message} for each in warnings(result)],
    }


def warnings(result: Result) -> list[Notice]:
    """All that did not act, images that could not be painted first."""
    notices = named(result.notices, result.order.draft)
    if not result.missed:
        return notices
    total = len(result.missed) + len(result.painted)
    why = result.missed[0].refusal.message
    return [Notice("n", f"{len(result.missed)} of {total} not painted: {why}"), *notices]


# -- Events ---------------------------------------------------------------------------------------


class Events:
    """The events of one stream, in order.

    Args:
        kind: what their names start with, `image_generation` or `image_edit`.
        partials: previews per image at the most, spread evenly over its steps.
    """

    def __init__(self, kind: str, draft: Draft, partials: int) -> None:
        self._kind = kind
        self._draft = draft
        self._partials = partials
        self._created = 0  # unix seconds
        self._sent: dict[int, int] = {}  # previews, by image
        self._finished = 0
        self._held: Document | None = None

    def of(self, update: Update) -> Iterator[Document]:
        """What is said when this has happened."""
        match update:
            case Admitted(_, created):
                self._created = created
            case Progress():
                yield from self._partial(update)
            case Painted():
                yield from self._completed(update)
            case Missed():
                self._finished += 1
            case Result() if self._held:
                yield self._held | {"limner": about(update)}
            case Result():
                pass

    def _partial(self, progress: Progress) -> Iterator[Document]:
        """A preview, if there is one and it is due."""
        sent = self._sent.get(progress.index, 0)
        due = progress.step * (self._partials + 1) >= progress.steps * (sent + 1)
        if progress.preview and due and sent < self._partials:
            self._sent[progress.index] = sent + 1
            event = self._event("partial_image", progress.index, progress.preview)
            yield event | {"partial_image_index": sent}

    def _completed(self, painted: Painted) -> Iterator[Document]:
        """A finished picture; the last of them waits, to be sent with what is known at the end."""
        event = self._event("completed", painted.index, painted.picture)
        event |= {"seed": painted.seed, "usage": USAGE}
        self._finished += 1
        if self._finished == self._draft.n:
            self._held = event
        else:
            yield event

    def _event(self, name: str, index: int, picture: Picture) -> Document:
        return {
            "type": f"{self._kind}.{name}",
            "b64_json": inline.Base64(picture),
            "created_at": self._created,
            "size": f"{picture.width}x{picture.height}",
            "quality": self._draft.quality or "auto",
            "background": "opaque",
            "output_format": picture.format,
            **_identifier(self._draft),
            "index": index,
        }
