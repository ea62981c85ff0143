"""The page in a real Chromium: draw, type, read; pictures from files; what is refused."""

import base64

from play_pages import choose, drag, percents, playwright, says

from miniclip.play.answers import BYTES, EXAMPLE
from miniclip.train import shapes

pytest_plugins = ["play_servers"]
PEN = "document.getElementById('canvas').getContext('2d')"


def test_draw_type_read(visit):
    page = visit()
    says(page, "Draw something, or take the example")
    page.get_by_label("Labels, one on each line").fill("a green star\na green circle\na purple star")
    choose(page, "star", "green")
    drag(page, (0.5, 0.5), (0.9, 0.5))
    says(page, r"^a green star, (9\d|100)\.\d percent$")
    assert list(percents(page)) == ["a green star", "a green circle", "a purple star"]
    assert page.locator(".row").first.locator(".piece").all_inner_texts() == ["a", "green", "star"]
    page.get_by_label("Labels, one on each line").fill("a purple star\na green circle")
    says(page, "^a (purple star|green circle), ")


def test_every_shape_is_drawn_so_that_the_model_knows_it(visit, answers):
    about = answers.about()
    page = visit()
    labels = [shapes.label(*pair) for pair in zip(about["colours"], about["shapes"])]
    page.get_by_label("Labels, one on each line").fill("\n".join(labels))
    for label in labels:
        _, colour, shape = label.split()
        choose(page, colour, shape)
        page.get_by_role("button", name="Clear").click()
        drag(page, (0.5, 0.5))
        playwright.expect(page.locator(".row.best .label")).to_have_text(label)


def test_the_brush_follows_and_the_eraser_erases(visit):
    page = visit()
    page.get_by_label("Labels, one on each line").fill("a blue cross\na blue circle\na pink cross")
    choose(page, "brush", "blue")
    page.get_by_label("Size").fill("50")
    drag(page, (0.2, 0.5), (0.8, 0.5))
    drag(page, (0.5, 0.2), (0.5, 0.8))
    says(page, "^a blue cross, ")
    ink = f"[...{PEN}.getImageData(0, 0, 480, 480).data].filter((x) => x).length"
    before = page.evaluate(ink)
    choose(page, "eraser")
    drag(page, (0.2, 0.5), (0.4, 0.5))
    erased = page.evaluate(ink)
    assert 0 < erased < before
    page.get_by_role("button", name="Undo").click()
    assert page.evaluate(ink) == before
    page.get_by_role("button", name="Clear").click()
    says(page, "Draw something")
    assert page.evaluate(ink) == 0 and page.locator("#answer").is_hidden()


def test_the_background_is_filled_below_what_is_drawn(visit):
    page = visit()
    page.get_by_label("Labels, one on each line").fill("a white heart\na black heart\na white circle")
    choose(page, "heart", "white")
    drag(page, (0.5, 0.5), (0.8, 0.5))
    choose(page, "black")
    page.get_by_role("button", name="Fill the background").click()
    says(page, r"^a white heart, (9\d|100)\.\d percent$")


# ------------------------------------------------------------------------------------------- pictures


def test_the_model_gets_a_files_own_bytes(visit, answers, monkeypatch):
    expected = answers.answer(EXAMPLE.read_bytes(), answers.about()["labels"])["labels"]
    expected = {entry["label"]: f"{100 * entry['probability']:.1f}%" for entry in expected}
    file = base64.b64encode(EXAMPLE.read_bytes()).decode()
    transfer = (
        "(file) => { const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(atob(file), "
        "(x) => x.charCodeAt(0))], 'p.png', {type: 'image/png'})); return data; }"
    )
    got, answer = set(), answers.answer
    monkeypatch.setattr(answers, "answer", lambda picture, labels: got.add(picture) or answer(picture, labels))
    page = visit()
    for give in (
        lambda: page.get_by_role("button", name="Example").click(),
        lambda: page.locator("#file").set_input_files(EXAMPLE),
        lambda: page.dispatch_event("#canvas", "drop", {"dataTransfer": page.evaluate_handle(transfer, file)}),
        lambda: page.evaluate(f"dispatchEvent(new ClipboardEvent('paste', {{clipboardData: ({transfer})('{file}')}}))"),
    ):
        page.get_by_role("button", name="Clear").click()
        page.locator("#answer").wait_for(state="hidden")
        give()
        page.locator("#answer").wait_for()
        assert percents(page) == expected
    assert got == {EXAMPLE.read_bytes()}
    choose(page, "square", "blue")
    drag(page, (0.5, 0.5), (0.9, 0.5))  # over the heart
    says(page, "^a (blue heart|red circle|pink star), ")
    page.get_by_role("button", name="Undo").click()
    says(page, "^a red heart, 99.9 percent$")
    assert percents(page) == expected


FAULTS = ["status of 400"]  # Chromium's console names each of these answers


def test_what_cannot_be_read_is_said(visit):
    page = visit(faults=FAULTS)
    alert = page.get_by_role("alert")
    page.get_by_role("button", name="Example").click()
    says(page, "^a red heart, 99.9 percent$")
    expected = page.evaluate("document.getElementById('canvas').toDataURL()")
    page.locator("#file").set_input_files({"name": "p.png", "mimeType": "image/png", "buffer": b"no picture"})
    playwright.expect(alert).to_have_text("p.png cannot be read as a picture: choose another file.")
    assert page.evaluate("document.getElementById('canvas').toDataURL()") == expected  # the drawing is still there
    page.get_by_role("button", name="Example").click()
    playwright.expect(alert).to_have_text("")
    page.get_by_label("Labels, one on each line").fill("\n  \n")
    playwright.expect(alert).to_have_text("Type at least one label.")
    page.get_by_label("Labels, one on each line").fill("a star " * 30)
    playwright.expect(alert).to_contain_text("has 60 tokens, the model reads 30: shorten it")
    page.get_by_label("Labels, one on each line").fill("a cat\na red heart")
    playwright.expect(
        page.get_by_text("never saw these words, so its answer says nothing about them: cat")
    ).to_be_visible()


def test_a_file_that_is_too_large_is_not_even_sent(visit, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(BYTES + 1))
    page = visit()
    says(page, "^Draw something")  # it has asked once
    page.locator("#file").set_input_files(tmp_path / "large.png")
    playwright.expect(page.get_by_role("alert")).to_have_text(
        "large.png has more than 20 million bytes: choose a smaller picture."
    )


def test_when_the_server_is_gone_the_page_says_so_and_continues_when_it_is_back(visit):
    page = visit(faults=["ERR_FAILED"])
    page.route("**/answer", lambda route: route.abort())
    page.get_by_role("button", name="Example").click()
    playwright.expect(page.get_by_role("alert")).to_contain_text("Is miniclip play still running?")
    page.unroute("**/answer")
    says(page, "^a red heart, ")
    playwright.expect(page.get_by_role("alert")).to_have_text("")
