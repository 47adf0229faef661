"""Pages as a reader without a browser meets them: well formed, complete in themselves, accessible."""

import base64
import hashlib
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, ids and text of a page; an end tag without a beginning is an error."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such element."""
        return [attrs for name, attrs in self.tags if name == tag]


def check_page(html: str, scripts: int = 0) -> None:
    """Well formed, nothing loaded from anywhere, no script but its own, and every inner link has a target."""
    page = Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    check_scripts(html, scripts)
    assert not {"link", "iframe", "object", "embed", "form"} & {tag for tag, _ in page.tags}
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert set(re.findall(r"https?://[^/\"\s]+", html)) <= {"https://arxiv.org"}
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    inside = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    inside += [use["href"][1:] for use in page.all("use")]
    inside += [section["aria-labelledby"] for section in page.all("section")]
    assert inside
    assert {*inside, *re.findall(r"url\(#([^)]+)\)", html)} <= set(page.ids)


def check_scripts(html: str, scripts: int) -> None:
    """So many scripts, all of them in the page, and only they may run."""
    policy = next(meta["content"] for meta in Page(html).all("meta") if "http-equiv" in meta)
    found = re.findall(r"<script(.*?)>(.*?)</script", html, flags=re.DOTALL)
    assert len(found) == html.count("<script") == scripts
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in found]
    assert [attributes for attributes, _ in found] == [""] * scripts
    assert re.findall("script-src ([^;]*)", policy) == [f"'sha256-{digest}'" for digest in digests]


def check_access(html: str) -> None:
    """Language, one title, text for every picture and chart, headed tables, regions that keys can scroll, contrast."""
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all("scope" in cell for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    regions = [div for div in page.all("div") if "tabindex" in div]
    assert all(div.get("role") == "region" and div.get("aria-label") for div in regions)
    schemes = re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes[:2]:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for name in ("ink", "muted", "first", "second", "link"):
            assert _contrast(colours[name], colours["paper"]) >= 4.5, name


def _contrast(first: str, second: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)
