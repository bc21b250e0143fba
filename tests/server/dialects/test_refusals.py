"""Every refusal in every dialect, byte for byte as in the files of `refusals/`.

`python -m tests.server.dialects.test_refusals` writes them anew, to be looked at with `git diff`.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.errors import BadRequest, Mistake, Refusal
from tests.server.dialects import easel, openai_easel, venice_stand
from tests.server.dialects.easel import every_refusal
from tests.server.dialects.gallery import BODIES, EDIT, Exhibition

GOLDEN = Path(__file__).parent / "refusals"
# Nothing that the refusal decides.
PASSING = {"content-length"}

Document = dict[str, Any]


def by_depicta(refusal: Refusal) -> httpx2.Response:
    place = Exhibition()
    place.gallery.raises = refusal
    place.app = place.app.app  # without what gives requests their ids
    return place.send(EDIT, json=BODIES[EDIT])


# An edit of one image, refused.
DIALECTS: dict[str, Callable[[Refusal], httpx2.Response]] = {
    "aimo": lambda refusal: easel.edit(easel.EDIT, easel.Easel(breaks=refusal)),
    "venice": lambda refusal: venice_stand.ask("/image/edit", venice_stand.Easel(breaks=refusal)),
    "openai": lambda refusal: openai_easel.send(
        "/images/edits", openai_easel.Easel(breaks=refusal), json=openai_easel.EDIT
    ),
    "depicta": by_depicta,
}


def told(answer: httpx2.Response) -> Document:
    headers = {name: text for name, text in answer.headers.items() if name not in PASSING}
    if job := headers.get("x-depicta-job-id"):
        headers["x-depicta-job-id"] = re.sub("[0-9a-f]", "0", job)
    return {"status": answer.status_code, "headers": headers, "body": answer.json()}


def refusals(kind: type[Refusal]) -> dict[str, Refusal]:
    """As its clients meet it: plain; of a field, to be tried again; of a body's shape."""
    found = {
        "plain": kind("this is wrong"),
        "of a field": kind("this is wrong", param="images[0]", retry_after=9),
        "of a field that is said": kind("images[0] is wrong", param="images[0]"),
    }
    if kind is BadRequest:
        of_shape = kind("seed: must be a number; n: is required", param="seed")
        of_shape.mistakes = (
            Mistake(("seed",), "int_type", "must be a number"),
            Mistake(("n",), "missing", "is required"),
        )
        found["of a shape"] = of_shape
    return found


def rendered(dialect: str) -> Document:
    return {
        kind.__name__: {
            name: told(DIALECTS[dialect](refusal)) for name, refusal in refusals(kind).items()
        }
        for kind in every_refusal()
    }


def golden(dialect: str) -> Path:
    return GOLDEN / f"{dialect}.json"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_refusal_is_told_as_it_always_was(dialect: str):
    kept = json.loads(golden(dialect).read_text("utf-8"))
    found = rendered(dialect)
    assert found.keys() == kept.keys()
    for name, said in found.items():
        assert said == kept[name], name


TOLD: dict[str, Callable[..., Any]] = {
    "aimo": easel.told,
    "venice": venice_stand.told,
    "openai": openai_easel.told,
}


@pytest.mark.parametrize("status", [401, 402, 403, 409, 429, 451, 502])
def test_a_status_that_nothing_raises_yet_is_told_in_every_shape(status: int):
    class Coming(Refusal):
        code = "coming"

    Coming.status = status
    for dialect, told_by in TOLD.items():
        answer = DIALECTS[dialect](Coming("not today", retry_after=5))
        told_by(answer, status, *([] if dialect == "venice" else ["coming"]))
        assert "not today" in answer.text
        assert answer.headers["retry-after"] == "5"
    answer = DIALECTS["depicta"](Coming("not today", retry_after=5))
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "5")
    body = {"error": "coming", "message": "not today", "request_id": "req_-"}
    assert answer.json() == body


if __name__ == "__main__":
    for each in DIALECTS:
        golden(each).write_text(json.dumps(rendered(each), indent=1) + "\n", "utf-8")
