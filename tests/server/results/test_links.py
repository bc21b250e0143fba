"""Signed links: what verifies, until when, and the key behind it."""

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import Expired, Forbidden
from server.results import links
from server.results.links import Signer, kept_key

NOW = 1_800_000_000
KEYS = ["new" * 20, "old" * 20]
SIGNER = Signer(KEYS)


def pieces(path: str) -> tuple[str, str, str]:
    found = links.parts(f"http://anywhere{path}")
    assert found
    return found


@given(st.from_regex(r"[a-z0-9.-]{1,110}", fullmatch=True), st.integers(1, 10**6))
def test_a_link_verifies_until_it_expires(name: str, left: int):
    link = SIGNER.link(name, NOW + left)
    assert link.expires == NOW + left
    assert pieces(link.path)[0] == name
    assert SIGNER.check(*pieces(link.path), NOW) == NOW + left
    assert SIGNER.check(*pieces(link.path), NOW + left - 0.5) == NOW + left
    with pytest.raises(Expired):
        SIGNER.check(*pieces(link.path), NOW + left)


LINK = pieces(SIGNER.link("a.png", NOW + 60).path)


@given(st.integers(0, 2), st.text())
def test_nothing_else_verifies(which: int, text: str):
    forged = [*LINK]
    forged[which] = text
    if forged != [*LINK]:
        with pytest.raises(Forbidden):
            SIGNER.check(*forged, NOW)


def test_no_character_of_it_can_be_changed():
    whole = "\n".join(LINK)
    let_through = []
    for at in range(len(whole)):
        for character in "a0A-_.~":
            changed = whole[:at] + character + whole[at + 1 :]
            if changed == whole or changed.count("\n") != 2:
                continue
            try:
                SIGNER.check(*changed.split("\n"), NOW)
                let_through.append(changed.split("\n"))
            except Forbidden:
                pass
    # The last character of base64 has bits to spare; what was signed is the same.
    assert {(name, expires) for name, expires, _ in let_through} <= {LINK[:2]}


def test_expiry_does_not_mend_a_forgery():
    with pytest.raises(Forbidden):
        SIGNER.check(LINK[0], LINK[1], "x" * 43, NOW + 10**6)


def test_keys_rotate():
    new, old = (Signer([key]) for key in KEYS)
    from_old = pieces(old.link("a.png", NOW + 60).path)
    from_both = pieces(SIGNER.link("a.png", NOW + 60).path)
    assert SIGNER.check(*from_old, NOW) == NOW + 60
    assert new.check(*from_both, NOW) == NOW + 60
    for signer, link in ((old, from_both), (new, from_old)):
        with pytest.raises(Forbidden):
            signer.check(*link, NOW)


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://x/", "http://x/files/a.png", "http://x/files/a.png?expires=1"),
        *("http://x/files/a.png?signature=b", "http://x/file/a.png?expires=1&signature=b"),
        *("http://x/files/a.png?expires=1&expires=2&signature=b", "http://[/files/a?expires=1"),
        "http://x/files/a.png?expires=1&signature=b" + "&c=d" * 10,
    ],
)
def test_what_is_no_link(url: str):
    assert links.parts(url) is None


@given(st.text())
def test_any_text_is_taken_apart_or_not(text: str):
    links.parts(text)
    links.parts(f"http://x/files/a.png?{text}")


# -- The key --------------------------------------------------------------------------------------


def test_the_key_is_made_once_and_read_by_nobody_else(tmp_path: Path):
    path = tmp_path / "data" / "signing.key"
    key = kept_key(path)
    assert kept_key(path) == key
    assert len(bytes.fromhex(key)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [*path.parent.iterdir()] == [path]
    assert kept_key(tmp_path / "other.key") != key


def test_who_starts_together_has_one_key(tmp_path: Path):
    ready = threading.Barrier(8)

    def start(path: Path) -> str:
        ready.wait(10)
        return kept_key(path)

    with ThreadPoolExecutor(8) as starting:
        for turn in range(10):
            path = tmp_path / f"{turn}.key"
            assert len({*starting.map(start, [path] * 8)}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {f"{turn}.key" for turn in range(10)}


def test_a_key_that_is_none_is_not_replaced(tmp_path: Path):
    path = tmp_path / "signing.key"
    path.write_text("")
    with pytest.raises(OSError, match="holds no key"):
        kept_key(path)
    assert path.read_text() == ""
