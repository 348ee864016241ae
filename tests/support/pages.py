"""Reads HTML as a browser's parser does, strictly: every element is closed, in order."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a page holds.

    Attributes
    ----------
    tags : list of (name, attributes)
        All elements, in order.
    texts : dict of str to list of str
        Texts by the element that they stand in.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Give the attributes of each element of that name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """All that is read."""
        skipped = ("style", "script")
        return " ".join(
            text for tag, texts in self.texts.items() if tag not in skipped for text in texts
        )


def check_safe(text: str) -> Page:
    """Hold a page against what it promises: it loads nothing, and runs nothing but its script."""
    page = Page(text)
    for name, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), f"<{name} {key}>"
            assert key != "style", f"<{name} style>, which the policy forbids"
            if key in ("src", "href", "action", "srcset", "data"):
                assert (value or "").startswith(("data:", "#")), f"<{name} {key}={value}>"
    allowed = {"html", "head", "meta", "link", "title", "style", "body", "main", "script"}
    assert not {name for name, _ in page.tags} & {"iframe", "object", "embed", "base", "form"}
    assert allowed <= {name for name, _ in page.tags}
    policy = next(
        meta["content"]
        for meta in page.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind in ("style", "script"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert "</" not in content
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    return page
