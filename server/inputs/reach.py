"""Where a fetch may go: which URLs, hosts and ports, and which addresses behind them.

Pure. Knows nothing of names being resolved, of sockets or of HTTP.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx2

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PORTS = frozenset({80, 443})
URL_CHARS = 8192  # what the usual servers take in a request line

# Not `ipaddress.is_global`, which lets addresses through that carry a private one inside them.
# IANA's special-purpose registries, and what was reserved before them.
_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    )
)
# Everything public lies in here; mapped, compatible, SIIT and NAT64 forms of IPv4 do not.
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")  # Teredo, 6to4 and others
)
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")  # before an IPv4 address at the end
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_ENTRY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


class OutOfReach(Exception):
    """A URL that is not fetched; the message is fit for whoever sent it."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to a host of the public internet, and to nothing else."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return (
        address in _PUBLIC_6
        and not any(address in network for network in _NOT_PUBLIC_6)
        and address.packed[8:12] not in _ISATAP
    )


def is_host(address: Address) -> bool:
    """Whether an address can be a host's own, private ones included; link-local ones are not, for
    a cloud's machines get their credentials there."""
    inner = getattr(address, "ipv4_mapped", None) or address
    strange = inner.is_multicast or inner.is_unspecified or inner.is_reserved
    return inner.is_loopback or not (strange or inner.is_link_local)


def listed(text: str) -> tuple[str, frozenset[int]]:
    """An entry of a list of hosts, `"nas.lan"` or `"nas.lan:8080"`, as the host and its ports.

    Raises:
        ValueError: it is neither.
    """
    found = _ENTRY.fullmatch(text)
    if not found or not (host := _canonical(found[1])) or not 0 < int(found[2] or 80) < 65536:
        raise ValueError(f'must be a name like "nas.lan" or "nas.lan:8080", not {text!r:.60}')
    return host, frozenset({int(found[2])}) if found[2] else PORTS


def _canonical(host: str) -> str:
    """A host's name as names are compared, without brackets; "" if it cannot be one."""
    name = host.lower().removesuffix(".")
    try:
        return str(ipaddress.IPv6Address(name.strip("[]")))
    except ValueError:
        return name if len(name) < 254 and _NAME.fullmatch(name) else ""


@dataclass(frozen=True, slots=True)
class Reach:
    """Every public host on `ports` or, if there are any, `hosts` on their own ports and no other;
    those may be private."""

    hosts: Mapping[str, Collection[int]] = field(default_factory=dict[str, Collection[int]])
    ports: Collection[int] = PORTS

    @classmethod
    def to(cls, entries: Iterable[str]) -> "Reach":
        """The reach of a list of hosts. Raises ValueError."""
        hosts: dict[str, frozenset[int]] = {}
        for entry in entries:
            host, ports = listed(entry)
            hosts[host] = hosts.get(host, frozenset()) | ports
        return cls(hosts)

    def first(self, url: str) -> httpx2.URL:
        """The URL that a client gave. Raises OutOfReach."""
        return self._checked(_parsed(url))

    def after(self, url: httpx2.URL, location: str) -> httpx2.URL:
        """Where a redirect from `url` leads. Raises OutOfReach."""
        try:
            following = url.join(_parsed(location, relative=True))
        except (httpx2.InvalidURL, ValueError) as error:
            raise OutOfReach("a redirect leads to no URL") from error
        if (url.scheme, following.scheme) == ("https", "http"):
            raise OutOfReach("a redirect leads from https to http")
        return self._checked(following)

    def _checked(self, url: httpx2.URL) -> httpx2.URL:
        if url.scheme not in ("http", "https"):
            raise OutOfReach("must be an http or https URL")
        if url.userinfo:
            raise OutOfReach("must have no user name or password in it")
        host = _canonical(url.raw_host.decode("ascii"))
        if not host or "%" in url.host:
            raise OutOfReach("must name a host")
        if self.hosts and host not in self.hosts:
            raise OutOfReach("must lead to a host that url_fetch lists in the configuration")
        ports = self._ports(host)
        if port_of(url) not in ports:
            raise OutOfReach(f"must lead to port {' or '.join(map(str, sorted(ports)))}")
        return url

    def _ports(self, host: str) -> Collection[int]:
        return self.hosts.get(_canonical(host), ()) if self.hosts else self.ports

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Whether `address`, which `host` resolved to, may be dialled."""
        return port in self._ports(host) and (is_host if self.hosts else is_public)(address)


def port_of(url: httpx2.URL) -> int:
    """The port that an http or https URL leads to."""
    return url.port if url.port is not None else {"http": 80, "https": 443}[url.scheme]


def _parsed(text: str, *, relative: bool = False) -> httpx2.URL:
    # Backslashes are read in two ways, so that what was checked might not be what is dialled.
    if len(text) > URL_CHARS or "\\" in text:
        raise OutOfReach(f"must be a URL of at most {URL_CHARS} characters, without backslashes")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutOfReach("must be a URL") from error
    if not relative and not url.host:
        raise OutOfReach("must be an http or https URL")
    return url
