"""The book has all pages, and what they link to: without mdBook, which `make book` takes."""

import importlib.util
import re
from importlib.machinery import SourceFileLoader

import pytest

from conftest import REPOSITORY

_SCRIPT = REPOSITORY / "scripts/book"


@pytest.fixture(scope="module")
def book():
    loader = SourceFileLoader("book", str(_SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("book", loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def staged(book, tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "staged"
    book.Stage(folder).write()
    return folder


def without_code(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    """Of the headings, as mdBook makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_all_pages_are_in_it(staged):
    listed = re.findall(r"\]\(([^)]+)\)", (staged / "SUMMARY.md").read_text())
    pages = {path.name for path in staged.glob("*.md")} - {"SUMMARY.md"}
    assert sorted(listed) == sorted(pages)
    written = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"SUMMARY.md"}
    assert written < pages and {"overview.md", "changelog.md", "benchmarks.md"} < pages


def test_each_link_leads_to_something_in_it(staged):
    """Nothing outside of it can be seen from a site."""
    seen = 0
    for page in staged.glob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = (staged / path if path else page).resolve()
            assert target.is_file() and target.is_relative_to(staged), (page.name, link)
            assert not anchor or anchor in anchors(target.read_text()), (page.name, link)
            seen += 1
    assert seen > 200
    assert (staged / "files/config/alerts.yml").is_file() and (staged / "images/page-tree.png").is_file()


def test_code_is_as_it_is_written(staged):
    def blocks(path):
        return re.findall(r"^```.*?^```", path.read_text(), re.DOTALL | re.MULTILINE)

    assert blocks(staged / "client.md") == blocks(REPOSITORY / "docs/client.md")


def test_a_page_that_links_to_nothing_is_no_page_of_it(book, tmp_path, monkeypatch):
    stage = book.Stage(tmp_path)
    page = REPOSITORY / "docs/merging.md"
    assert stage.link(page, "../config/fleet.json5") == "files/config/fleet.json5"
    assert stage.link(page, "../README.md#terms") == "overview.md#terms"
    for same in ("https://zenoh.io", "#timestamps", "formats.md#proofs"):
        assert stage.link(page, same) == same
    for wrong in ("../config/none.json5", "../examples", "none.md", "../CONTRIBUTING.md"):
        with pytest.raises(SystemExit, match=re.escape(f"docs/merging.md links to {wrong}")):
            stage.link(page, wrong)


def test_a_link_of_the_book_that_leads_nowhere_is_found(book, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.yml").write_text("")
    (tmp_path / "a.html").write_text(
        '<h1 id="a"></h1><a href="b.html#b"><a href="#a"><a href="files/a.yml"><a href="https://zenoh.io">'
    )
    (tmp_path / "b.html").write_text('<h1 id="b"></h1>')
    assert book.check(tmp_path) == []
    (tmp_path / "b.html").write_text(
        '<a href="b.html#b"><a href="#c"><img src="none.png"><a href="files/"><a href="c.html">'
    )
    assert book.check(tmp_path) == [
        "a.html: b.html#b",
        "b.html: #c",
        "b.html: b.html#b",
        "b.html: c.html",
        "b.html: files/",
        "b.html: none.png",
    ]
