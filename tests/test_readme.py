"""The README leads nowhere that does not exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_it_links_to_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_it_is_short() -> None:
    """But for the figures that scripts put into it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.sub(r"(<!-- bench: .*? -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.DOTALL)
    assert len(told.splitlines()) <= 145
