"""The Venice dialect before a painter that paints by script, and what sends its tests' requests."""

import json
from dataclasses import replace
from typing import Any

import httpx2

from server.dialects import venice
from server.errors import BadImage, Unavailable
from server.images.pictures import Picture
from server.jobs.catalog import Catalog
from server.jobs.enlargement import Cutting, Enlarged, Wish
from server.jobs.intake import Draft, Notice
from server.settings.tables import Config
from tests.server.dialects import easel
from tests.server.dialects.easel import B64, PNG, asked

STYLES = [
    {"name": "Anime", "prompt": "{prompt}, inked"},
    {"name": "3D Model", "prompt": "{prompt}"},
]
ALIASES = [{"model": "sketch", "names": ["qwen-edit"]}]
CONFIG = Config.model_validate(
    {
        "model": [{"id": "sketch", "family": "toy", "native": ["64x64"]}],
        "style": STYLES,
        "alias": ALIASES,
    }
)

EDIT = {"image": B64, "prompt": "a red circle"}
MULTI = {"images": [B64], "prompt": "a red circle"}
ASK = {"model": "sketch", "prompt": "a red circle"}
WORDS = {"prompt": "a red circle"}
UP = {"image": B64}
BODIES: dict[str, dict[str, Any]] = {
    "/image/edit": EDIT,
    "/image/multi-edit": MULTI,
    "/image/generate": ASK,
    "/images/generations": WORDS,
    "/image/upscale": UP,
    "/image/background-remove": UP,
}
PAINTS = ("/image/edit", "/image/multi-edit", "/image/generate", "/images/generations")
FORMS = ("/image/edit", "/image/multi-edit", "/image/upscale", "/image/background-remove")


class Easel(easel.Easel):
    """Also enlarges by script; whatever is no PNG by its first bytes is no image."""

    def __init__(self, *script: Any, **more: Any) -> None:
        super().__init__(*script, **more)
        self.wishes: list[Wish] = []

    def expect(self, model: str, canvases: int) -> None:
        super().expect("sketch" if model == "qwen-edit" else model, canvases)

    async def enlarge(self, wish: Wish) -> Enlarged:
        if self.breaks:
            raise self.breaks
        self._look(wish.image)
        self.wishes.append(wish)
        notices = (*wish.ignored, Notice("scale", "less"))
        return Enlarged("img-1", Picture(b"large", "png", 80, 60), notices, {"total": 0.5})

    async def cut_out(self, wish: Cutting) -> Picture:
        if self.breaks:
            raise self.breaks
        self._look(wish.image)
        raise Unavailable("not available")

    def _look(self, data: bytes) -> None:
        if not data.startswith(b"\x89PNG"):
            raise BadImage("not a PNG, JPEG or WebP image", param="images[0]")


class Stand(easel.Stand):
    """The service that the one app of these tests has."""

    easel: Easel

    async def enlarge(self, wish: Wish) -> Enlarged:
        return await self.easel.enlarge(wish)

    async def cut_out(self, wish: Cutting) -> Picture:
        return await self.easel.cut_out(wish)


STAND = Stand()
APP = venice.build(replace(easel.front(STAND), catalog=Catalog.of(CONFIG)))


def send(
    path: str, easel: Easel | None = None, *, method: str = "POST", **how: Any
) -> httpx2.Response:
    """One request to the application, answered by this easel."""
    STAND.easel = easel or Easel()
    return asked(APP, method, path, **how)


def ask(path: str, easel: Easel | None = None, **said: Any) -> httpx2.Response:
    """The plain request of a path with some more, or other, fields; `None` is sent as null."""
    return send(path, easel, json={**BODIES[path], **said})


def form(path: str, easel: Easel | None = None, **said: Any) -> httpx2.Response:
    """The same as a form, its image as a file."""
    plain = {name: value for name, value in BODIES[path].items() if name not in ("image", "images")}
    texts = {name: _text(value) for name, value in {**plain, **said}.items()}
    name = "images" if path == "/image/multi-edit" else "image"
    return send(path, easel, data=texts, files=[(name, ("a.png", PNG))])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def understood(path: str, **said: Any) -> Draft:
    easel = Easel()
    answer = ask(path, easel, **said)
    assert answer.status_code == 200, answer.text
    return easel.drafts[0]


def warned(answer: httpx2.Response) -> dict[str, str]:
    said = json.loads(answer.headers.get("x-limner-warnings", "[]"))
    return {each["param"]: each["message"] for each in said}


def told(answer: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """The body, after checking what every refusal of this dialect has in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.content) <= 2048
    assert answer.content.isascii()
    body = answer.json()
    assert isinstance(body["error"], str)
    keys = {400: {"error", "details", "issues"}, 413: {"error", "code"}}.get(status, {"error"})
    assert body.keys() == keys
    for issue in body.get("issues", []):
        at = body["details"]
        for part in issue["path"]:
            at = at[str(part)]
        assert issue["message"] in at["_errors"]
    return body


def at_fault(body: dict[str, Any]) -> list[str]:
    """The fields that a 400 names, as paths."""
    return [".".join(map(str, issue["path"])) for issue in body["issues"]]
