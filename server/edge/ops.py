"""What an operator's tools ask: does it live, can it paint, what is in memory? Knows no dialect."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from server.jobs.status import Status


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be painted now; what is amiss, in short sentences fit for the public.

    `settled`: nothing is loading any more, so that only time and luck will change the answer.
    """

    ready: bool
    reasons: tuple[str, ...] = ()
    settled: bool = True


def build(readiness: Callable[[], Readiness], status: Callable[[], Status]) -> APIRouter:
    """`GET /healthz`: 200 while the process answers. `GET /readyz`: 200, or 503 with reasons.
    `GET /statusz`: a `Status` as JSON.

    `HEAD` is answered alike, without the body: load balancers ask that way.
    """
    router = APIRouter(tags=["operation"])

    async def healthz(request: Request) -> JSONResponse:
        """The process answers. Says nothing of models."""
        return _fresh(request, {"status": "alive"}, 200)

    async def readyz(request: Request) -> JSONResponse:
        """A worker painted its first step and takes work; what is amiss all the same is named."""
        state = readiness()
        if state.ready:
            amiss = {"reasons": list(state.reasons)} if state.reasons else {}
            return _fresh(request, {"status": "ready", **amiss}, 200)
        return _fresh(request, {"status": "not ready", "reasons": list(state.reasons)}, 503)

    async def statusz(request: Request) -> JSONResponse:
        """What is in memory, and how busy it is."""
        return _fresh(request, msgspec.to_builtins(status()), 200)

    not_now = {503: {"description": "Not now; the body says why."}}
    router.add_api_route("/healthz", healthz, methods=["GET"])
    router.add_api_route("/readyz", readyz, methods=["GET"], responses={**not_now})
    router.add_api_route("/statusz", statusz, methods=["GET"])
    for path, route in (("/healthz", healthz), ("/readyz", readyz), ("/statusz", statusz)):
        router.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)
    return router


def _fresh(request: Request, body: dict[str, object], status: int) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = "1"
    answer = JSONResponse(body, status, headers=headers)
    if request.method == "HEAD":
        answer.body = b""  # Content-Length stays that of GET
    return answer
