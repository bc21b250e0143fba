"""Multipart bodies as clients send them, and as nobody should."""

import asyncio
import tempfile
from collections.abc import Callable

import httpx2
import pytest
from starlette.datastructures import Headers

from server.edge import fields, forms
from server.edge.forms import Form
from server.errors import BadRequest, UnsupportedMedia

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


class Asked(fields.Shape):
    """A shape as dialects have them."""

    prompt: fields.Prompt
    n: int = 1
    stream: bool = False
    guidance: float | None = None


def parsed(request: httpx2.Request, body: bytes | None = None) -> Form:
    headers = Headers(dict(request.headers))
    return asyncio.run(forms.parse(headers, request.read() if body is None else body))


def form(**said: object) -> httpx2.Request:
    return httpx2.Request("POST", "http://test", **said)


FILES = [("image[]", ("a.png", PNG)), ("image[]", ("b.png", PNG * 2)), ("mask", ("m.png", PNG))]


def test_files_and_texts_come_through() -> None:
    found = parsed(form(data={"prompt": "ein Käse", "tag": ["a", "b"]}, files=FILES))
    assert found.files == {"image": [PNG, PNG * 2], "mask": [PNG]}
    assert found.texts == {"prompt": ["ein Käse"], "tag": ["a", "b"]}
    assert found.one("mask") == PNG
    assert found.one("other") is None
    with pytest.raises(BadRequest, match="image: one file is expected, not 2"):
        found.one("image")


def test_texts_are_read_as_what_the_shape_has() -> None:
    said = {"prompt": "x", "n": "3", "stream": "true", "guidance": "2.5"}
    asked = parsed(form(data=said, files=FILES)).shaped(Asked)
    assert asked == Asked(prompt="x", n=3, stream=True, guidance=2.5)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"n": "many"}, "n"),
        ({"stream": "maybe"}, "stream"),
        ({"n": ["1", "2"]}, "n"),
        ({}, "prompt"),
    ],
)
def test_wrong_texts_are_refused_by_name(said: dict[str, str], names: str) -> None:
    whole = {"prompt": "x"} | said if said else {"other": "x"}
    with pytest.raises(BadRequest) as refusal:
        parsed(form(data=whole, files=FILES)).shaped(Asked)
    assert refusal.value.param == names


@pytest.mark.parametrize(
    "harm",
    [
        lambda body: body[:-20],
        lambda body: body[: len(body) // 2],
        lambda body: b"",
        lambda body: b"--",
        lambda body: body.replace(b'name="prompt"', b"nothing"),
        lambda body: body.replace(b"\r\n\r\n", b"\n"),
    ],
)
def test_broken_bodies_are_refused(harm: Callable[[bytes], bytes]) -> None:
    request = form(data={"prompt": "x"}, files=FILES)
    with pytest.raises(BadRequest, match="the body is no multipart form"):
        parsed(request, harm(request.read()))


def test_a_form_without_a_boundary_is_refused() -> None:
    headers = Headers({"content-type": "multipart/form-data"})
    with pytest.raises(BadRequest, match="boundary"):
        asyncio.run(forms.parse(headers, b"--x--"))


def in_charset(charset: str, body: bytes) -> Form:
    headers = Headers({"content-type": f"multipart/form-data; boundary=b; charset={charset}"})
    return asyncio.run(forms.parse(headers, body))


TEXT = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n%s\r\n--b--\r\n'


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "US-ASCII"])
def test_a_form_may_say_that_it_is_what_it_must_be(charset: str) -> None:
    assert in_charset(charset, TEXT % b"an owl").texts == {"prompt": ["an owl"]}


@pytest.mark.parametrize(
    "charset", ["punycode", "undefined", "unicode_escape", "utf-16", "latin-1", "none", '""']
)
def test_no_other_charset_is_decoded(charset: str) -> None:
    with pytest.raises(UnsupportedMedia, match="charset must be utf-8"):
        in_charset(charset, TEXT % b"an owl\\u12")


def test_too_many_parts_are_refused() -> None:
    many = [("image", ("a.png", PNG))] * (forms.FILES + 1)
    with pytest.raises(BadRequest, match="Too many files"):
        parsed(form(data={}, files=many))


def test_a_large_file_never_touches_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_disk)
    data = PNG * 400_000
    assert parsed(form(data={}, files=[("image", ("a.png", data))])).one("image") == data
