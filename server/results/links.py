"""Signed links: who holds one may fetch what it names until it expires, without further proof.

Pure but for `kept_key`, which keeps the key. Knows nothing of what a link leads to, nor of HTTP.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import itsdangerous

from server.errors import Expired, Forbidden

PREFIX = "/files/"
KEY_BYTES = 32  # of randomness; written as hex
SALT = b"limner.files.1"  # so that a signature made for something else is none here


@dataclass(frozen=True, slots=True)
class Link:
    """A path with a query, and until when it leads somewhere, in unix seconds."""

    path: str
    expires: int


class Signer:
    """Signs and checks links. The first key signs, all of them verify: put a new one in front, and
    take an old one away when its links have expired."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._signer = itsdangerous.Signer(
            [*reversed(keys)], SALT, key_derivation="hmac", digest_method=hashlib.sha256
        )

    def link(self, name: str, expires: int) -> Link:
        """A link to what is called `name`, good until `expires` in unix seconds."""
        signature = self._signer.get_signature(_signed(name, str(expires))).decode("ascii")
        query = urlencode({"expires": expires, "signature": signature})
        return Link(f"{PREFIX}{name}?{query}", expires)

    def check(self, name: str, expires: str, signature: str, now: float) -> int:
        """Until when the link is good of which these are the parts, as they came from a client.

        Raises:
            Forbidden: it was not signed here, or not for this. Expired: it was, but is too old.
        """
        if not self._signer.verify_signature(_signed(name, expires), _bytes(signature)):
            raise Forbidden("the link is not valid")
        if int(expires) <= now:
            raise Expired("the link has expired")
        return int(expires)


def _signed(name: str, expires: str) -> bytes:
    return _bytes(f"{name}?{expires}")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def parts(url: str) -> tuple[str, str, str] | None:
    """Name, expiry and signature in a URL that has the form of a link, on whatever host."""
    try:
        split = urlsplit(url)
        query = parse_qs(split.query, max_num_fields=8)
    except ValueError:
        return None
    _, mark, name = split.path.rpartition(PREFIX)
    expires, signature = query.get("expires", ()), query.get("signature", ())
    if not mark or len(expires) != 1 or len(signature) != 1:
        return None
    return name, expires[0], signature[0]


def kept_key(path: Path) -> str:
    """The key in a file that only its owner reads; made if there is none.

    Of several processes that make it at once, one does and all get the same. Raises OSError.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(os.urandom(KEY_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(new)  # fails if somebody was faster, and never shows half a key
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return _read(path)


def _read(path: Path) -> str:
    key = path.read_text("ascii", "replace").strip()
    if len(key) < 2 * KEY_BYTES:
        raise OSError(f"{path} holds no key; remove it, and a new one is made")
    return key
