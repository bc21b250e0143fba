"""Multipart bodies: text fields that a shape is made of, and files. In memory, under limits.

Knows no dialect. A file of a form never touches the disk.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.edge import web
from server.errors import BadRequest, UnsupportedMedia

FILES, FIELDS = 20, 100  # more than any dialect has
KIND = "multipart/form-data"
CHARSETS = (b"utf-8", b"utf8", b"us-ascii")  # Python has codecs that take for ever, or fail

ShapeT = TypeVar("ShapeT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Form:
    """A body's parts by name; `image[]` and `image` are one name."""

    texts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    files: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])

    def shaped(self, shape: type[ShapeT], more: Mapping[str, object] | None = None) -> ShapeT:
        """The text fields as a shape, each read as what the shape has there; `more` are fields
        that a form has no text for, under whatever name.

        Raises:
            BadRequest: with the field at fault named and what is allowed there.
        """
        said: dict[str, object] = {
            name: texts[0] if len(texts) == 1 else texts for name, texts in self.texts.items()
        }
        try:
            return shape.model_validate(said | dict(more or {}), strict=False)
        except ValidationError as error:
            raise web.bad_request(error.errors(include_url=False, include_input=False)) from None

    def one(self, name: str) -> bytes | None:
        """The file of this name, None without any.

        Raises:
            BadRequest: there are several.
        """
        found = self.files.get(name, [])
        if len(found) > 1:
            named = web.clipped(name, web.ECHO_CHARS)
            raise BadRequest(f"{named}: one file is expected, not {len(found)}", param=named)
        return found[0] if found else None

    def expect_files(self, *names: str) -> None:
        """Refuse files that nobody would look at; `image[]` is where there may be several.

        Raises:
            BadRequest: there is one of another name.
        """
        others = sorted(self.files.keys() - {name.removesuffix("[]") for name in names})
        if others:
            named, only = web.clipped(others[0], web.ECHO_CHARS), " and ".join(names)
            raise BadRequest(f"{named}: no file is expected here, only {only}", param=named)


class InMemory(MultiPartParser):
    """Keeps files of any size out of the disk: the body is limited as a whole."""

    spool_max_size = 2**40


def is_form(request: Request) -> bool:
    """Whether the body is a form by its type."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == KIND


async def read(request: Request, limit: int) -> Form:
    """The multipart body of a request, of at most `limit` bytes.

    Raises:
        TooLarge, TooSlow, BadRequest, UnsupportedMedia.
    """
    web.expect_identity(request)
    body = await web.body(request, limit)
    return await parse(request.headers, body)


async def parse(headers: Headers, body: bytes | bytearray) -> Form:
    """The parts of a body.

    Raises:
        BadRequest: it is no form, or has too many parts. UnsupportedMedia: it is not UTF-8.
    """

    _, options = parse_options_header(headers.get("content-type", ""))
    if options.get(b"charset", CHARSETS[0]).lower() not in CHARSETS:
        raise UnsupportedMedia("Content-Type: the charset must be utf-8")
    boundary = options.get(b"boundary", b"")
    if not boundary or b"--" + boundary + b"--" not in body[-len(boundary) - 64 :]:
        raise BadRequest("the body is no multipart form: it has no boundary at its end")

    async def pieces() -> AsyncGenerator[bytes]:
        for start in range(0, len(body), web.CHUNK):
            yield bytes(body[start : start + web.CHUNK])
            await asyncio.sleep(0)

    parser = InMemory(
        headers, pieces(), max_files=FILES, max_fields=FIELDS, max_part_size=len(body) + 1
    )
    try:
        found = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(f"the body is no multipart form: {error.message:.100}") from error
    try:
        return await _collected(found)
    finally:
        await found.close()


async def _collected(found: FormData) -> Form:
    form = Form()
    for name, value in found.multi_items():
        plain = name.removesuffix("[]")
        if isinstance(value, UploadFile):
            form.files.setdefault(plain, []).append(await value.read())
        else:
            form.texts.setdefault(plain, []).append(value)
    return form
