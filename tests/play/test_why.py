"""The page in a real Chromium: what it explains."""

import re

from align_models import small  # noqa: F401
from play_pages import playwright

import miniclip
from miniclip.play.answers import EXAMPLE, Answers

pytest_plugins = ["play_servers"]


def test_the_explanation_follows_the_best_label_or_the_one_that_is_chosen(visit):
    page = visit()
    page.get_by_role("button", name="Example").click()
    explained = page.locator("#explained")
    playwright.expect(explained).to_have_text("a red heart")
    assert page.locator("#tokens li").all_inner_texts()[2].split()[0] == "heart"
    page.get_by_role("radio", name=re.compile("^a pink star")).check()
    playwright.expect(explained).to_have_text("a pink star")
    assert not page.get_by_label("explain the best one").is_checked()
    page.get_by_label("explain the best one").check()
    playwright.expect(explained).to_have_text("a red heart")


def test_maps_are_of_patches_and_heads(visit, answers):
    page = visit()
    page.get_by_role("button", name="Example").click()
    view = page.get_by_role("img", name=re.compile("^Relevance is largest at row"))
    view.wait_for()
    found = answers.explanation(EXAMPLE.read_bytes(), "a red heart")
    largest = max((x, -r, -c) for r, row in enumerate(found["patches"]) for c, x in enumerate(row))
    assert f"at row {1 - largest[1]} column {1 - largest[2]};" in page.locator("#where").inner_text()
    picture = "document.getElementById('view').toDataURL()"
    relevance = page.evaluate(picture)
    page.get_by_label("Opacity").fill("0")
    plain = page.evaluate(picture)
    page.get_by_label("Opacity").fill("85")
    assert page.get_by_role("radio", name=re.compile("^block")).count() == 16
    page.get_by_role("radio", name="block 4, head 2").check(force=True)
    page.get_by_role("img", name=re.compile("^Block 4, head 2 looks most at row")).wait_for()
    assert len({relevance, plain, page.evaluate(picture)}) == 3


def test_what_a_model_does_not_have_is_hidden(visit, served, small):  # noqa: F811
    with served(Answers(*miniclip.load(small, backend="numpy"), "ALIGN")) as port:
        page = visit(port)
        page.get_by_role("button", name="Example").click()
        page.locator("#why").wait_for()
        assert page.locator("#heads-part").is_hidden() and "Grad-CAM" in page.locator("#why").inner_text()
        assert page.get_by_role("radio", name=re.compile("^block")).count() == 0
        page.close()
