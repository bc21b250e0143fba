"""Base64 and data URLs: strict coming in, exact going out."""

import asyncio
import base64
import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.errors import BadImage, TooLarge
from server.images import inline
from server.images.pictures import Picture


def decoded(text: str, limit: int = 10_000_000) -> bytes:
    return asyncio.run(inline.decode(text, limit, "images[0].b64"))


@given(st.binary(min_size=1, max_size=300), st.integers(1, 80))
def test_decodes_what_was_encoded(data: bytes, columns: int):
    text = base64.b64encode(data).decode()
    lines = "\r\n".join(text[i : i + columns] for i in range(0, len(text), columns))
    assert decoded(text) == data
    assert decoded(f" {text}\n") == data
    if columns >= 32:
        assert decoded(lines) == data
    assert decoded(f"data:image/png;base64,{text}") == data
    assert decoded(f"DATA:;BASE64,{text}") == data


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
@pytest.mark.parametrize("columns", [76, 64, 10**9])
def test_decodes_across_pieces_and_in_a_thread(extra: int, columns: int):
    data = bytes(range(256)) * (inline.THREAD_FROM // 256) + b"x" * extra
    text = base64.b64encode(data).decode()
    assert decoded("\n".join(text[i : i + columns] for i in range(0, len(text), columns))) == data


PIECE = inline.TEXT_PIECE
WRONG = {
    "": "empty",
    "   ": "empty",
    "data:image/png;base64,": "empty",
    "a": "not valid base64",
    "QUJ": "not valid base64",
    "QUJD=": "not valid base64",
    "QUJD====": "not valid base64",
    "====": "not valid base64",
    "=QQ=": "not valid base64",
    "QQ==QUJD": "not valid base64",
    "Q!JD": "not valid base64",
    "QUJ\0": "not valid base64",
    "QUJ\u00e9": "not valid base64",
    "QUJ\U0001f600": "not valid base64",
    "QU-_": "not valid base64",
    "A" * (PIECE - 4) + "QQ==" + "QUJD": "not valid base64",
    "A" * PIECE + "A": "not valid base64",
    "data:image/png,rawbytes": "data URL",
    "data:" + "x" * 500 + ";base64,QUJD": "data URL",
    "data:image/png;base64": "data URL",
}


@pytest.mark.parametrize(("text", "says"), WRONG.items(), ids=range(len(WRONG)))
def test_refuses_what_is_no_base64(text: str, says: str):
    with pytest.raises(BadImage) as refused:
        decoded(text)
    assert refused.value.message.startswith("images[0].b64: ")
    assert says in refused.value.message
    assert len(refused.value.message) < 100


@given(st.text(max_size=60))
@example("data:,")
@example("=" * 8)
def test_any_text_is_bytes_or_a_refusal(text: str):
    with contextlib.suppress(BadImage):
        assert decoded(text)


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact(over: int):
    text = base64.b64encode(b"x" * (1000 + over)).decode()
    if over:
        with pytest.raises(TooLarge) as refused:
            decoded(text, 1000)
        assert refused.value.param == "images[0].b64"
    else:
        assert len(decoded(text, 1000)) == 1000


def test_far_too_much_is_refused_before_decoding():
    with pytest.raises(TooLarge):
        decoded("!" * 5_000_000, 1000)  # else the "!" would have been found


@given(st.lists(st.binary(max_size=20), max_size=4), st.text())
def test_documents_carry_pictures(datas: list[bytes], text: str):
    pictures = [Picture(data, "png", 1, 1) for data in datas]
    document = {
        "images": [{"index": i, "url": inline.DataUrl(p)} for i, p in enumerate(pictures)],
        "text": text,
    }
    parts = inline.parts_of(document)
    whole = b"".join(inline.flow(parts))
    assert len(whole) == inline.length(parts)
    read = msgspec.json.decode(whole)
    assert read["text"] == text
    urls = [base64.b64decode(image["url"].partition(",")[2]) for image in read["images"]]
    assert urls == datas


def test_pictures_without_a_prefix():
    picture = Picture(b"\xff\xfe\xfd", "jpeg", 1, 1)
    parts = inline.parts_of({"a": inline.Base64(picture), "b": inline.DataUrl(picture)})
    whole = b"".join(inline.flow(parts))
    assert len(whole) == inline.length(parts)
    assert whole == b'{"a":"//79","b":"data:image/jpeg;base64,//79"}'


def test_large_pictures_come_in_small_pieces():
    picture = Picture(bytes(1_000_001), "webp", 1, 1)
    pieces = list(inline.flow(inline.parts_of([inline.DataUrl(picture)])))
    assert max(map(len, pieces)) <= 256 * 1024
    text = msgspec.json.decode(b"".join(pieces))[0]
    assert text.startswith("data:image/webp;base64,")
    assert decoded(text) == picture.data


def test_only_json_and_pictures_belong_into_a_document():
    with pytest.raises(TypeError, match="object does not belong"):
        inline.parts_of({"x": object()})
