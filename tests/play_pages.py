"""What the tests of the page in a real Chromium do with it. Its fixtures are in play_servers.py."""

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")


def drag(page, *points):
    """Draw through points, which are shares of the canvas."""
    box = page.locator("#canvas").bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def choose(page, *names):
    for name in names:
        page.get_by_role("radio", name=name, exact=True).check(force=True)


def says(page, pattern):
    """Wait until the page says this in words, where screen readers read it aloud."""
    playwright.expect(page.get_by_role("status").first).to_have_text(re.compile(pattern))


def percents(page):
    """{label: percent} as the page shows them."""
    rows = page.locator(".row")
    return dict(zip(rows.locator(".label").all_inner_texts(), rows.locator(".percent").all_inner_texts()))
