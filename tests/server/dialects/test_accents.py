"""The same wish, said in four accents, is the same job."""

import base64
import io
from types import ModuleType
from typing import Any

import httpx2
import msgspec
import pytest
from PIL import Image

from models.contract import Job
from server.dialects import aimo, depicta, openai, venice
from server.jobs.intake import Draft, resolve
from server.sizes import Size
from tests.server.dialects.easel import LIMITS, Easel, asked, front

DIALECTS: dict[str, ModuleType] = {
    "aimo": aimo,
    "openai": openai,
    "venice": venice,
    "depicta": depicta,
}
PROMPT = "a red circle"


def png(mode: str = "RGB") -> bytes:
    image = Image.new(mode, (256, 256), (0, 0, 0, 0)[: len(mode)])
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


BASE = png()
B64 = base64.b64encode(BASE).decode()
URL = f"data:image/png;base64,{B64}"


def ask(easel: Easel, dialect: str, path: str, **said: Any) -> httpx2.Response:
    """What a dialect answers to a request."""
    return asked(DIALECTS[dialect].build(front(easel)), "POST", path, **said)


def draft_of(dialect: str, path: str, **said: Any) -> Draft:
    """What a dialect understands of a request."""
    easel = Easel()
    answer = ask(easel, dialect, path, **said)
    assert easel.drafts, answer.text
    return easel.drafts[0]


def job_of(draft: Draft) -> Job:
    """What is going to be painted; seeds that nobody named are 7."""
    order = resolve(
        draft,
        front(Easel()).catalog,
        LIMITS,
        inputs=[Size(256, 256)] * len(draft.images),
        mask=Size(256, 256) if draft.mask else None,
        draw_seed=lambda: 7,
        new_id=lambda: "id",
        preview_steps=4,
    )
    return order.job


def same(jobs: dict[str, Job]) -> None:
    first = next(iter(jobs.values()))
    for dialect, job in jobs.items():
        assert msgspec.structs.asdict(job) == msgspec.structs.asdict(first), dialect


def test_a_picture_of_a_size_and_a_seed() -> None:
    wish = {"model": "sketch", "prompt": PROMPT, "seed": 5, "steps": 9}
    said = {
        "aimo": ("/image/generate", {"width": "96", "height": "64", "guide_scale": 3}),
        "openai": ("/images/generations", {"size": "96x64", "guidance": 3}),
        "venice": ("/image/generate", {"width": 96, "height": 64, "cfg_scale": 3}),
    }
    drafts = {name: draft_of(name, path, json=wish | own) for name, (path, own) in said.items()}
    same({name: job_of(draft) for name, draft in drafts.items()})


def test_a_picture_with_nothing_but_a_prompt() -> None:
    wish = {"model": "sketch", "prompt": PROMPT}
    paths = {
        "aimo": "/image/generate",
        "openai": "/images/generations",
        "venice": "/image/generate",
        "depicta": "/generate/image",
    }
    same({name: job_of(draft_of(name, path, json=wish)) for name, path in paths.items()})


def test_a_shape_and_a_tier() -> None:
    wish = {"model": "sketch", "prompt": PROMPT, "aspect_ratio": "3:2"}
    said = {
        "aimo": ("/image/generate", {"resolution": "1K"}),
        "venice": ("/image/generate", {"resolution": "1K"}),
        "depicta": ("/generate/image", {"image_size": "1K"}),
    }
    same(
        {name: job_of(draft_of(name, path, json=wish | own)) for name, (path, own) in said.items()}
    )


def test_an_edit() -> None:
    wish = {"model": "sketch", "prompt": PROMPT}
    drafts = {
        "aimo": draft_of("aimo", "/image/edit", json=wish | {"images": [{"b64": URL}]}),
        "openai": draft_of(
            "openai", "/images/edits", data=wish, files={"image": ("a.png", BASE, "image/png")}
        ),
        "venice": draft_of("venice", "/image/edit", json=wish | {"image": B64}),
        "depicta": draft_of(
            "depicta", "/edit/image", data=wish, files={"image": ("a.png", BASE, "image/png")}
        ),
    }
    same({name: job_of(draft) for name, draft in drafts.items()})
    assert {name: draft.images for name, draft in drafts.items()} == dict.fromkeys(drafts, (BASE,))


@pytest.mark.parametrize("n", [1, 3])
def test_several_images(n: int) -> None:
    wish = {"model": "sketch", "prompt": PROMPT, "seed": 11}
    said = {
        "aimo": ("/image/generate", {"n": n}),
        "openai": ("/images/generations", {"n": n}),
        "venice": ("/image/generate", {"variants": n}),
    }
    jobs = {
        name: job_of(draft_of(name, path, json=wish | own)) for name, (path, own) in said.items()
    }
    assert {job.seeds for job in jobs.values()} == {tuple(range(11, 11 + n))}
    same(jobs)


@pytest.mark.parametrize(
    ("dialect", "path", "said"),
    [
        ("aimo", "/image/generate", {}),
        ("aimo", "/image/generate", {"output_type": "file"}),
        ("openai", "/images/generations", {}),
        ("openai", "/images/generations", {"response_format": "url"}),
        ("venice", "/image/generate", {}),
        ("venice", "/image/generate", {"return_binary": True}),
        ("venice", "/images/generations", {}),
    ],
)
def test_every_answer_says_where_its_time_went(
    dialect: str, path: str, said: dict[str, Any]
) -> None:
    answer = ask(Easel(), dialect, path, json={"model": "sketch", "prompt": PROMPT, **said})
    assert answer.status_code == 200, answer.text
    assert answer.headers["server-timing"] == "queue;dur=0.1, paint;dur=1000.0, total;dur=1100.0"
