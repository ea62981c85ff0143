"""The page in a real Chromium: draw, type, read; by keyboard alone; what screen readers get; what is refused."""

import base64
import contextlib
import re
import shutil

import pytest
from align_models import small  # noqa: F401

import miniclip
from miniclip.play.answers import BYTES, EXAMPLE, Answers
from miniclip.train import shapes

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path: apt install chromium")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 320, "height": 256}  # narrow: 1280 pixels at 400%
CONTROLS = {"button", "radio", "checkbox", "slider", "textbox", "application", "ColorWell", "image", "link"}
PEN = "document.getElementById('canvas').getContext('2d')"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as library:
        playwright.expect.set_options(timeout=20_000)
        browser = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # which root cannot have
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, port):
    """A function that opens the page; it makes sure that the page asks no other host, and that nothing goes wrong."""
    with contextlib.ExitStack() as pages:

        def opened(port=port, *, faults=(), **options):
            page = pages.enter_context(contextlib.closing(browser.new_page(**{"viewport": WIDE, **options})))
            page.set_default_timeout(20_000)
            asked, said = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_role("radio", name="crescent").wait_for()
            pages.callback(lambda: check(asked, said, port, faults))
            return page

        yield opened


def check(asked, said, port, faults):
    assert asked and [url for url in asked if not url.startswith(f"http://127.0.0.1:{port}/")] == []
    assert [text for text in said if not any(fault in text for fault in faults)] == []


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


# ------------------------------------------------------------------------------------------- by mouse


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
    page.locator("#file").set_input_files({"name": "p.png", "mimeType": "image/png", "buffer": b"no picture"})
    playwright.expect(alert).to_contain_text("the picture cannot be read: this page takes PNG, JPEG")
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


# ------------------------------------------------------------------------------------------------ why


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


# ------------------------------------------------------------------------------------ without a mouse


def focused(page):
    return page.evaluate("document.activeElement.ariaLabel || document.activeElement.id || document.activeElement.name")


def tab_to(page, name, key="Tab"):
    for _ in range(30):
        if focused(page) == name:
            return
        page.keyboard.press(key)
    pytest.fail(f"the key {key} does not lead to {name}")


def test_by_keyboard_alone(visit):
    page = visit()
    tab_to(page, "brush")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert focused(page) == "heart"
    tab_to(page, "red")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "orange"
    tab_to(page, "labels")
    page.keyboard.press("Control+a")
    page.keyboard.type("an orange heart\nan orange star")
    tab_to(page, "Your picture", "Shift+Tab")
    page.keyboard.press("Space")
    says(page, r"^an orange heart, \d+\.\d percent$")
    playwright.expect(page.locator("#moves")).to_have_text(
        "orange heart drawn. 50 percent from the left, 50 from the top"
    )
    page.keyboard.press("Control+z")
    says(page, "Draw something")


def test_the_brush_is_put_down_and_lifted_by_keyboard(visit):
    page = visit()
    tab_to(page, "Your picture")
    page.keyboard.press("Space")
    for key in ["ArrowRight"] * 3 + ["Shift+ArrowDown"]:
        page.keyboard.press(key)
    playwright.expect(page.locator("#moves")).to_have_text("65 percent from the left, 51 from the top")
    page.keyboard.press("Space")
    playwright.expect(page.locator("#moves")).to_contain_text("brush lifted.")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    ink = [
        page.evaluate(f"{PEN}.getImageData({x}, {y}, 1, 1).data[3]") for x, y in [(288, 240), (312, 400), (100, 240)]
    ]
    assert ink == [255, 0, 0]
    says(page, "percent$")


def test_every_control_has_a_name_and_its_focus_is_seen(visit):
    page = visit()
    page.get_by_role("button", name="Example").click()
    page.locator("#why").wait_for()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in tree if node.get("role", {}).get("value") in CONTROLS and not node["ignored"]]
    assert [node["role"] for node in controls if not node.get("name", {}).get("value")] == [] and len(controls) > 40
    groups = {node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "group"}
    assert groups == {"Tool: brush", "Colour: red", "Label to explain", "What the model sees, and where"}
    headings = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "heading"]
    assert headings[:4] == ["miniclip play", "Picture", "Labels and answer", "Why"]
    ringed = (
        "[document.activeElement, document.activeElement.parentElement].map((e) => getComputedStyle(e).outlineStyle)"
    )
    seen = {}
    while focused(page) not in seen:  # once around
        seen[focused(page)] = page.evaluate(ringed)
        page.keyboard.press("Tab")
    del seen["example"]  # it was clicked
    assert [name for name, styles in seen.items() if name and "solid" not in styles] == []
    assert {"Your picture", "labels", "size", "opacity", "follow", "choose"} <= seen.keys()


CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colours) => {  // the colours painted one over the other, as bytes
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return context.getImageData(0, 0, 1, 1).data;
  };
  const light = (bytes) => {  // relative luminance, WCAG 2.2
    const [r, g, b] = [...bytes].map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.tagName === "NOSCRIPT") continue;
    const grounds = [];
    for (let e = element; e; e = e.parentElement) grounds.unshift(getComputedStyle(e).backgroundColor);
    const ground = light(over(["white", ...grounds]));
    const ink = light(over([getComputedStyle(element).color]));
    const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    found.push([walker.currentNode.data.trim(), ratio]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme, visit):
    page = visit(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(21, 23, 27)") == (scheme == "dark")
    page.get_by_role("button", name="Example").click()
    page.get_by_label("Labels, one on each line").fill("a red heart\na dog")
    page.locator("#notes li").first.wait_for()
    page.locator("#why").wait_for()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 30 and [(text, ratio) for text, ratio in found if ratio < 4.5] == []


def test_it_fits_a_narrow_window(visit):
    page = visit(viewport=NARROW)
    page.get_by_role("button", name="Example").click()
    page.locator("#why").wait_for()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= NARROW["width"]
    boxes = (
        "[...document.querySelectorAll('button, textarea, canvas, .row, input')].map((e) => e.getBoundingClientRect())"
    )
    assert max(page.evaluate(f"{boxes}.map((box) => box.right)")) <= NARROW["width"]


def test_nothing_moves_if_that_is_asked_for(visit):
    for choice, seconds in (("no-preference", "0.15s"), ("reduce", "0s")):
        page = visit(reduced_motion=choice)
        page.get_by_role("button", name="Example").click()
        page.locator("#why").wait_for()
        assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == seconds
