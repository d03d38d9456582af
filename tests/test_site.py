"""The documentation site: whole, reachable, searchable, and nothing in it is loaded from another host."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml

from tests.support.site import built_site

__all__ = ["built_site"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOST = "http://site.invalid/"
FENCE = re.compile(r"^ *```", re.MULTILINE)


class Page(HTMLParser):
    """What a built page loads, where it links to, its ids, title, code blocks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.blocks = 0
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.blocks += tag == "pre"
        self._in_title = tag == "title" and not self.title
        if tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "link" and given.get("rel") in ("canonical", "next", "prev"):
            self.links.append(given["href"])
        else:
            self.loads += [given[name] for name in ("href", "src", "data", "poster") if given.get(name)]

    def handle_data(self, data: str) -> None:
        self.title += data if self._in_title else ""

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


@pytest.fixture(scope="module")
def pages(built_site: Path) -> dict[str, Page]:
    """By its address below the root: `how-to/deploy/`."""
    return {
        path.relative_to(built_site).as_posix().removesuffix("index.html"): Page(path.read_text("utf-8"))
        for path in built_site.rglob("*.html")
        if path.name != "404.html"
    }


class Ignoring(yaml.SafeLoader):
    """mkdocs.yml names a Python function, which is not called here."""


Ignoring.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def in_navigation() -> list[str]:
    def walk(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            for one in node.values():
                yield from walk(one)
        elif isinstance(node, list):
            for one in node:
                yield from walk(one)

    return list(walk(yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Ignoring)["nav"]))


def test_every_page_stands_in_the_navigation_once() -> None:
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    named = in_navigation()
    assert len(named) == len(set(named))
    assert set(named) == written, "name it in mkdocs.yml"


def test_every_link_and_anchor_leads_somewhere(built_site: Path, pages: dict[str, Page]) -> None:
    broken: list[str] = []
    for address, page in pages.items():
        for link in {*page.links, *page.loads}:
            target = urlsplit(urljoin(HOST + address, link))
            if target.hostname != "site.invalid" or link.startswith(("mailto:", "data:")):
                continue
            path = unquote(target.path).lstrip("/")
            there = pages.get(path)
            is_there = (built_site / path).is_file() if there is None else unquote(target.fragment) in {"", *there.ids}
            if not is_there:
                broken.append(f"{address}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_another_host(built_site: Path, pages: dict[str, Page]) -> None:
    loaded = {one for page in pages.values() for one in page.loads}
    assert [one for one in loaded if urlsplit(one).netloc] == []
    for style in built_site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert re.findall(r"@import|url\(\s*[\"']?(?:https?:)?//[^)]*", text) == []


def test_no_two_pages_have_one_title(pages: dict[str, Page]) -> None:
    titles = [page.title for page in pages.values()]
    assert sorted(title for title in titles if titles.count(title) > 1) == []


def test_every_code_block_is_one_on_the_site(pages: dict[str, Page]) -> None:
    """A block in a list that does not stand in by four spaces is a paragraph to Python-Markdown."""
    wrong: list[str] = []
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).as_posix()
        address = re.sub(r"(README)?\.md$", "", name)
        address += "/" if address and not address.endswith("/") else ""
        if pages[address].blocks != len(FENCE.findall(path.read_text("utf-8"))) / 2:
            wrong.append(name)
    assert wrong == []


def test_files_that_pages_link_to_are_there_as_they_are(built_site: Path) -> None:
    carried = [path for path in (built_site / "files").rglob("*") if path.is_file()]
    assert built_site / "files" / "deploy" / "nginx" / "entobot.conf" in carried
    for path in carried:
        assert path.read_bytes() == (ROOT / path.relative_to(built_site / "files")).read_bytes()
