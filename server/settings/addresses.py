"""What may be written in a configuration for a host, an origin or a URL: text in, text out.

Each raises ValueError with what it must be like. Knows nothing of tables.
"""

import ipaddress
import re
from typing import Literal, TypeAlias, cast
from urllib.parse import urlsplit

from server.inputs.reach import listed

Hosts: TypeAlias = Literal["off", "public"] | tuple[str, ...]


def url(text: str) -> str:
    """An http or https URL, without a final slash; or nothing."""
    if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise ValueError('must be like "https://paint.example"')
    return text.rstrip("/")


def bare_host(host: str) -> str:
    """A host without the brackets of IPv6."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def host_name(host: str) -> str:
    """A host's name or address, or `*`."""
    if host == "*" or re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", host) or _is_address(host.strip("[]")):
        return host
    raise ValueError('must be a name like "paint.lan", without scheme or port')


def origin(text: str) -> str:
    """The origin of a page, as browsers say it."""
    found = re.fullmatch(
        r"(https?://([A-Za-z0-9_.-]+|\[[0-9a-f:.]+\]))(:[0-9]{1,5})?", text.lower()
    )
    if not found:
        raise ValueError('must be like "https://app.example:3000", without a path')
    # Browsers leave a scheme's own port out, and what they say is compared letter by letter.
    usual = {"http": ":80", "https": ":443"}[found[1].partition(":")[0]]
    return found[1] + (found[3] if found[3] and found[3] != usual else "")


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and only it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shelf(text: str) -> str:
    """A folder or a bucket; or nothing."""
    split = urlsplit(text)
    folder = split.scheme == "file" and not split.netloc and split.path.strip("/")
    bucket = split.scheme == "s3" and re.fullmatch(
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", split.netloc
    )
    if text and (not (folder or bucket) or split.query or split.fragment):
        raise ValueError('must be like "file:///folder" or "s3://bucket/prefix"')
    return text.rstrip("/")


def database(text: str) -> str:
    """A file of SQLite; or nothing."""
    if text and not re.fullmatch(r"sqlite:///[^?#\0]*[^/?#\0]", text):
        raise ValueError('must be like "sqlite:///limner.db" or "sqlite:////var/lib/limner.db"')
    return text


def fetched_from(value: object) -> Hosts:
    """Whose URLs are fetched."""
    for word in ("off", "public"):
        if value == word:
            return word
    entries = cast(list[object], value) if isinstance(value, (list, tuple)) else []
    if not entries:
        raise ValueError('must be "off", "public" or a list of hosts, like ["nas.lan:8080"]')
    for entry in entries:
        listed(str(entry))
    return tuple(map(str, entries))
