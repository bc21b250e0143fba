"""The route that signed links lead to, open to whoever holds one; and the address they start with.

Knows artifacts; knows no dialect.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.edge.delivery import SEND_SECONDS, Gone
from server.results.artifacts import Artifact, Artifacts
from server.results.links import PREFIX


def address(request: Request, public_url: str) -> str:
    """What a link's path goes behind to make a URL: `public_url`, or else the address by which
    this request came, whose Host the guard has let through."""
    return public_url or f"{request.url.scheme}://{request.url.netloc}"


def build(artifacts: Artifacts) -> APIRouter:
    """`GET` and `HEAD /files/{name}?expires=…&signature=…`.

    200 with the bytes, or 304; 403 without a valid signature; 410 when the link, or what it led
    to, is no more.
    """
    router = APIRouter(tags=["files"])

    async def file(
        request: Request,
        name: str,
        expires: str = "",
        signature: str = "",
    ) -> Response:
        """A result, by the link that an answer gave."""
        artifact, left = artifacts.verify(name, expires, signature)
        headers = _headers(artifact, left)
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            headers["Content-Length"] = f"{await artifacts.size(name)}"
            return Response(headers=headers)
        opened = await artifacts.open(name)
        headers["Content-Length"] = f"{opened.size}"
        return FileAnswer(opened.pieces, headers)

    said = {
        200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "The caller has it already."},
        403: {"description": "The link was not signed here."},
        404: {"description": "A path with more parts than a link has."},
        410: {"description": "The link has expired, or the result is no longer kept."},
        503: {"description": "Results cannot be read now."},
    }
    path = PREFIX + "{name}"
    router.add_api_route(path, file, response_class=Response, responses={**said})
    router.add_api_route(path, file, methods=["HEAD"], include_in_schema=False)
    return router


def _headers(artifact: Artifact, left: int) -> dict[str, str]:
    """What holds of an artifact for the `left` seconds of its link. Nobody sniffs, runs or frames
    it, and no name of a client's making gets onto a disk."""
    ending = artifact.id.rpartition(".")[2]
    return {
        "Content-Type": artifact.mime,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f'inline; filename="limner.{ending}"',
        "Cache-Control": f"private, max-age={left}, immutable",
        "ETag": f'"{artifact.sha256}"',
    }


class FileAnswer(Response):
    """An answer in pieces, each sent when the last one was taken; a reader too slow is cut."""

    def __init__(self, pieces: AsyncGenerator[bytes], headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await _in_time(send, piece, more=True)
        await _in_time(send, b"", more=False)


async def _in_time(send: Send, piece: bytes, *, more: bool) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": piece, "more_body": more})
    except TimeoutError as late:
        raise Gone(f"read less than {len(piece)} bytes in {SEND_SECONDS:g} s") from late
