"""Which dialect a request is in, where several services share a path.

Told by the path, the content type and the keys of the body; `X-Limner-Dialect` says it outright.
When nothing tells, it is the first dialect of the mount. Reads bodies and understands none.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from server.edge import forms, web
from server.errors import BadRequest

HEADER = "X-Limner-Dialect"

Keys: TypeAlias = Collection[str]
# The dialect of a body with these keys; a credential sent as Bearer decides what they leave open.
ByKeys: TypeAlias = Callable[[Keys, bool], str]

OF_VENICE = frozenset(
    {
        *("cfg_scale", "format", "return_binary", "variants", "style_references", "inpaint"),
        *("enhance_prompt", "disable_prompt_optimization_thinking", "anon_user_id"),
    }
)


def edit_by_keys(keys: Keys, bearer: bool) -> str:
    """`POST /image/edit`: Venice has one `image`, AIMO a list of `images`."""
    venice, aimo = bool({"image", "modelId"} & {*keys}), "images" in keys
    if venice == aimo:
        return "venice" if bearer else "aimo"
    return "venice" if venice else "aimo"


def generate_by_keys(keys: Keys, bearer: bool) -> str:
    """`POST /image/generate`: nearly the same keys, but for those that only Venice has."""
    return "venice" if OF_VENICE & {*keys} else "aimo"


# Under `/api/v1`. Paths that are not here are AIMO's.
API_PATHS: Mapping[str, str] = {
    "/images": "openai",
    "/image/multi-edit": "venice",
    "/image/upscale": "venice",
    "/image/background-remove": "venice",
    "/image/styles": "venice",
    "/x402": "venice",
    "/models": "venice",  # the same list for all, but only Venice's clients ask for a type
}
API_KEYS: Mapping[str, ByKeys] = {
    "/image/edit": edit_by_keys,
    "/image/generate": generate_by_keys,
}
# Under `/v1`. Paths that are not here are OpenAI's.
V1_PATHS: Mapping[str, str] = dict.fromkeys(
    (
        *("/generate", "/edit", "/combine", "/process", "/upload", "/jobs", "/account"),
        *("/guidelines", "/pricing", "/skill-version"),
    ),
    "depicta",
)


class Chooser:
    """Hands each request to one of several applications.

    Args:
        apps: by dialect; the first is for what nothing tells.
        paths: the dialect of a path and of those below it.
        keys: what tells by the keys of a JSON body, by path; a multipart body is Venice's there.
        limit: bytes of a body.
    """

    def __init__(
        self,
        apps: Mapping[str, ASGIApp],
        paths: Mapping[str, str],
        keys: Mapping[str, ByKeys],
        limit: int,
    ) -> None:
        self._apps = apps
        self._paths = paths
        self._keys = keys
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = await self._name(Request(scope, receive))
        await self._apps[name](scope, receive, send)

    async def _name(self, request: Request) -> str:
        if said := request.headers.get(HEADER):
            return self._said(said)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        above = [f"/{'/'.join(parts)}" for parts in _beginnings(path.strip("/").split("/"))]
        if found := next((self._paths[each] for each in above if each in self._paths), ""):
            return self._there(found)
        if request.method == "POST" and (tell := self._keys.get(path)):
            return self._there(await self._told(request, tell))
        return next(iter(self._apps))

    def _there(self, name: str) -> str:
        return name if name in self._apps else next(iter(self._apps))

    def _said(self, name: str) -> str:
        if (plain := name.strip().lower()) not in self._apps:
            allowed = ", ".join(self._apps)
            raise BadRequest(f"{HEADER}: must be one of {allowed} here, not {name!r:.50}")
        return plain

    async def _told(self, request: Request, tell: ByKeys) -> str:
        if forms.is_form(request):
            return "venice"
        body = await web.body(request, self._limit)
        request.scope[web.READ] = body
        bearer = request.headers.get("authorization", "").lower().startswith("bearer ")
        return tell(keys_of(body), bearer)


def _beginnings(parts: list[str]) -> list[list[str]]:
    """The path, and what is above it, the longest first."""
    return [parts[:count] for count in range(len(parts), 0, -1)]


def keys_of(body: bytes | bytearray) -> Keys:
    """The keys of a JSON object; none of what is no object, which its dialect will say."""
    if web.crowded(body):
        return ()
    try:
        return tuple(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
