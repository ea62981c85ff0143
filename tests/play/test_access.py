"""The page in a real Chromium: by keyboard alone, what screen readers get, contrast, narrow windows, motion."""

import pytest
from play_pages import playwright, says

pytest_plugins = ["play_servers"]
NARROW = {"width": 320, "height": 256}  # 1280 pixels at 400%
CONTROLS = {"button", "radio", "checkbox", "slider", "textbox", "application", "ColorWell", "image", "link"}
PEN = "document.getElementById('canvas').getContext('2d')"


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
