"""The table of addresses, and which URLs are followed at all."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.inputs.reach import PORTS, URL_CHARS, OutOfReach, Reach, is_host, is_public, listed

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254
    169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.10
    192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.7
    203.0.113.7 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:7f00:1 64:ff9b::7f00:1
    64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1::1 2001:10::1 2001:20::1
    2001:db8::1 2002:7f00:1:: 2002:808:808::1 2001:470::5efe:7f00:1 2001:470::200:5efe:808:808
    3fff::1 4000::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 fe80::5efe:7f00:1 fec0::1
    ff02::1 ff0e::1
"""

PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.0.0.1
    128.0.0.1 169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.1 192.167.1.1 198.17.1.1
    198.20.0.0 223.255.255.255 2001:200::1 2001:470::1 2003::1 2400:cb00::1 2606:2800:220:1::1
    2a00:1450::1 3ffe::1
"""


@pytest.mark.parametrize("text", NOT_PUBLIC.split())
def test_not_public(text: str):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_public(text: str):
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
def test_no_address_is_more_public_here_than_to_the_library(address: IPv4Address):
    assert not is_public(address) or address.is_global


@given(st.ip_addresses(v=4))
def test_no_form_of_an_ipv4_address_inside_ipv6_is_public(address: IPv4Address):
    low = int(address)
    forms = {
        "compatible": low,
        "mapped": 0xFFFF << 32 | low,
        "siit": 0xFFFF << 48 | low,
        "nat64": 0x64FF9B << 96 | low,
        "nat64 local": 0x64FF9B0001 << 80 | low,
        "6to4": 0x2002 << 112 | low << 80,
        "teredo": 0x20010000 << 96 | low ^ 0xFFFFFFFF,
        "isatap": 0x20010470 << 96 | 0x5EFE << 32 | low,
        "isatap, global": 0x20010470 << 96 | 0x02005EFE << 32 | low,
    }
    assert [name for name, form in forms.items() if is_public(IPv6Address(form))] == []


@given(st.ip_addresses(v=6))
def test_public_ipv6_is_what_is_handed_out(address: IPv6Address):
    if is_public(address):
        assert address in ipaddress.IPv6Network("2000::/3")
        assert address.is_global


@pytest.mark.parametrize(
    ("text", "can_be"),
    [
        *((text, True) for text in ("127.0.0.1", "::1", "10.0.0.7", "192.168.1.5", "fd00::7")),
        *((text, True) for text in ("1.1.1.1", "2606:2800:220:1::1", "::ffff:10.0.0.7")),
        *((text, False) for text in ("0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1")),
        *((text, False) for text in ("255.255.255.255", "::ffff:169.254.169.254", "ff02::1")),
    ],
)
def test_addresses_of_listed_hosts(text: str, can_be: bool):
    assert is_host(ipaddress.ip_address(text)) == can_be


# -- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://example.com/a/b.png?c=d#e",
        "http://example.com:80/",
        "https://example.com:443/",
        "https://example.com:80/",
        "HTTPS://EXAMPLE.COM/",
        "http://exa_mple.com./",
        "http://bücher.example/",
        "http://1.1.1.1/",
        "http://[2606:2800:220:1::1]/",
        "http://127.0.0.1/",  # refused where it is dialled
    ],
)
def test_urls_that_are_tried(url: str):
    checked = Reach().first(url)
    assert checked.scheme in ("http", "https")


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//example.com/", "http:", "http:///x", "http://", "http:example.com"),
        *("file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "data:image/png,x"),
        *("unix:///run/docker.sock", "javascript:x", "s3://bucket/x", "httpx://example.com/"),
        *("http://user@example.com/", "http://user:password@example.com/", "http://:@example.com"),
        *("http://example.com:22/", "http://example.com:8080/", "http://example.com:0/"),
        *("http://example.com:99999/", "http://example.com:-1/", "http://example.com:x/"),
        *("http://exa mple.com/", "http://ex%61mple.com/", "http://example.com\r\nX: y/"),
        *("http://[::1%25lo]/", "http://[::1", "http://a\\@127.0.0.1/", "http://example.com\\@x/"),
        *("http://１２７.0.0.1/", "http://a..b/", f"http://{'a' * 64}.com/", "http://.com/"),
        "http://example.com/" + "a" * URL_CHARS,
    ],
)
def test_urls_that_are_not_tried(url: str):
    with pytest.raises(OutOfReach):
        Reach().first(url)


@given(st.text())
@example("http://\ud800/")
def test_any_text_is_checked_or_refused(text: str):
    for url in (text, f"http://{text}", f"http://example.com{text}"):
        try:
            checked = Reach().first(url)
        except OutOfReach:
            continue
        assert (checked.scheme, checked.userinfo) in (("http", b""), ("https", b""))
        assert checked.port in (None, *PORTS)


def test_a_list_is_all_there_is():
    reach = Reach.to(["nas.lan:8080", "NAS.lan:9000", "cdn.example", "[fd00::7]:81"])
    good = "http://nas.lan:8080/x http://nas.lan:9000/ https://cdn.example http://[fd00:0::7]:81"
    for url in good.split():
        assert reach.first(url)
    bad = "http://nas.lan/ http://cdn.example:8080 http://x.cdn.example https://example.com"
    for url in bad.split():
        with pytest.raises(OutOfReach):
            reach.first(url)
    private = IPv4Address("192.168.1.5")
    assert reach.permits("nas.lan", 8080, private)
    assert not reach.permits("nas.lan", 8081, private)
    assert not reach.permits("other.lan", 8080, private)
    assert not Reach().permits("nas.lan", 80, private)


@pytest.mark.parametrize(
    "entry", ["", "*", "http://nas.lan", "nas.lan/x", "nas.lan:0", "nas.lan:65536", "a b", "::1"]
)
def test_what_is_no_entry_of_a_list(entry: str):
    with pytest.raises(ValueError, match=r"nas\.lan:8080"):
        listed(entry)


@pytest.mark.parametrize(
    ("start", "location", "end"),
    [
        ("http://a.example/b/c", "d", "http://a.example/b/d"),
        ("http://a.example/b/c", "/d?e", "http://a.example/d?e"),
        ("https://a.example/b", "//c.example/d", "https://c.example/d"),
        ("http://a.example/", "https://b.example/", "https://b.example/"),
        ("http://a.example/", "", "http://a.example/"),
    ],
)
def test_redirects_that_are_followed(start: str, location: str, end: str):
    reach = Reach()
    assert reach.after(reach.first(start), location) == httpx2.URL(end)


@pytest.mark.parametrize(
    "location",
    [
        *("http://b.example/", "file:///etc/passwd", "//user@b.example/", "https://b.example:22/"),
        *("//b.example:8080/", "\\\\b.example", "https://[::1%25lo]/", "https://１.example"),
    ],
)
def test_redirects_that_are_not(location: str):
    reach = Reach()
    with pytest.raises(OutOfReach):
        reach.after(reach.first("https://a.example/"), location)
