"""The pages: the README's length, links that work, and tests that are where the pages say."""

import importlib
import re

import pytest
from checkout import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LARGEST = 10_240  # bytes of the README


def prose(page):
    """The text of a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """The anchors of a page's headings, as code hosts and the site name them in links."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= LARGEST


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)(.*?)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def test_the_index_links_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\((.*?)\)", index)}
    reference = ROOT / "docs" / "reference"  # only the site has these, in its navigation
    assert {page for page in PAGES if reference not in page.parents} - linked == {ROOT / "docs" / "index.md"}


def test_the_site_has_every_page():
    """docs/hooks.py adds the tutorials' pages to the navigation."""
    navigation = re.findall(r"^ +- (?:\w+: )?(\S+\.md)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    rooms = ("findings", "kernels", "miniclip/learn", "tutorials", "weights")
    others = [*(f"{room}/README.md" for room in rooms), "miniclip/learn/INSTRUCTORS.md"]
    assert sorted(navigation) == sorted([*(page.relative_to(ROOT).as_posix() for page in PAGES), *others])


def test_every_finding_has_one_row():
    rows = re.findall(r"^\| `(\S+\.sh)` \|", (ROOT / "findings" / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "findings").glob("*.sh"))


NAMING = [
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
    "docs/**/*.md",
    "findings/*.md",
    "kernels/*.md",
    "miniclip/learn/*.md",
]


@pytest.mark.parametrize("pages", NAMING)
def test_tests_that_are_named_are_there(pages):
    for page in ROOT.glob(pages):
        for path in re.findall(r"\btests/[\w/]+\.py\b", page.read_text(encoding="utf-8")):
            assert (ROOT / path).is_file(), f"{page.relative_to(ROOT)} names {path}"


NAMES = [
    name
    for page in sorted((ROOT / "docs" / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_names_what_is_there(name):
    try:
        assert importlib.import_module(name).__doc__
    except ModuleNotFoundError:
        module, _, member = name.rpartition(".")
        assert getattr(importlib.import_module(module), member).__doc__
