"""What an operator's tools ask: is the process alive, and can it paint? Knows no dialect."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import JSONResponse


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be painted now; what is amiss, in short sentences fit for the public.

    `settled`: nothing is loading any more, so that only time and luck will change the answer.
    """

    ready: bool
    reasons: tuple[str, ...] = ()
    settled: bool = True


def build(readiness: Callable[[], Readiness]) -> APIRouter:
    """`GET /healthz`: 200 while the process answers. `GET /readyz`: 200, or 503 with reasons."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz")
    async def healthz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """The process answers. Says nothing of models."""
        return _fresh({"status": "alive"}, 200)

    @router.get("/readyz", responses={503: {"description": "Not now; the body says why."}})
    async def readyz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        """A worker painted its first step and takes work."""
        state = readiness()
        if state.ready:
            return _fresh({"status": "ready"}, 200)
        return _fresh({"status": "not ready", "reasons": list(state.reasons)}, 503)

    return router


def _fresh(body: dict[str, object], status: int) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = "1"
    return JSONResponse(body, status, headers=headers)
