"""Contact sheets: thumbnails where they belong, names escaped, missing pictures shown, other files kept."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from miniclip import InputError
from miniclip.embed import urls
from miniclip.search import contact_sheet
from miniclip.search.contact_sheet import COLUMNS, GAP, SIDE

COLOURS = [(200, 30, 40), (30, 160, 60), (20, 60, 200)]
ODD = "a \"quoted\" <img src=x onerror=alert(1)> & 'b'.png"


@pytest.fixture
def hits(tmp_path):
    """Three pictures of one colour, wide, tall and small, a missing one and a broken one."""
    found = []
    for i, (colour, size) in enumerate(zip(COLOURS, [(400, 200), (100, 500), (20, 20)])):
        path = tmp_path / (ODD if i == 0 else f"{i}.png")
        Image.new("RGB", size, colour).save(path)
        found.append((str(path), 0.9 - i / 10))
    (tmp_path / "broken.png").write_bytes(b"")
    return [*found, (str(tmp_path / "none.png"), 0.5), (str(tmp_path / "broken.png"), 0.4)]


def test_a_picture_has_each_thumbnail_in_its_place(tmp_path, hits):
    contact_sheet.write(tmp_path / "hits.png", "a title", hits * 2)
    with Image.open(tmp_path / "hits.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] == GAP + COLUMNS * (SIDE + GAP)
    for i, colour in enumerate(COLOURS):
        x = GAP + i * (SIDE + GAP)
        rows, columns = np.nonzero((pixels == colour).all(-1)[: pixels.shape[0] // 2, x : x + SIDE])
        height, width = [(SIDE // 2, SIDE), (SIDE, round(SIDE / 5)), (20, 20)][i]
        assert abs(np.ptp(rows) + 1 - height) <= 1 and abs(np.ptp(columns) + 1 - width) <= 1
        assert abs(columns.mean() - (SIDE - 1) / 2) <= 0.5
        assert (pixels == colour).all(-1)[pixels.shape[0] // 2 :].any()  # the second row


@pytest.mark.parametrize("count", [1, 4])
def test_few_hits_make_a_small_picture(hits, count):
    sheet = contact_sheet.sheet("a title that is long, " * 20, hits[:count])
    assert sheet.width == GAP + max(count, 3) * (SIDE + GAP)


def test_a_line_that_is_too_long_is_cut():
    from PIL import ImageFont

    font = ImageFont.load_default(13)
    text = "/a/long/path/" * 9 + "name.png"
    end = contact_sheet._fitted(text, font, 150, keep_end=True)
    beginning = contact_sheet._fitted(text, font, 150)
    assert end.startswith("…") and end.endswith("name.png") and font.getlength(end) <= 150 < font.getlength(text)
    assert beginning.startswith("/a/long/") and beginning.endswith("…")


class Page(HTMLParser):
    """Collects the tags with their attributes, and the text, of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_has_all_that_it_needs_and_no_name_is_read_as_html(tmp_path, hits):
    contact_sheet.write(tmp_path / "hits.html", "<script>alert(1)</script>", hits)
    text = (tmp_path / "hits.html").read_text()
    page = Page(text)
    assert page.all("script") == [] and "<script>alert(1)</script>" in page.text
    assert [image["alt"] for image in page.all("img")] == [name for name, _ in hits[:3]]
    assert all(
        image.keys() <= {"src", "alt"} and image["src"].startswith("data:image/jpeg;") for image in page.all("img")
    )
    assert [link["href"].startswith("file:///") and '"' not in link["href"] for link in page.all("a")] == [True] * 3
    assert "missing" in page.text and "cannot be read" in page.text
    assert {name for name, _ in hits} <= {*page.text}
    assert re.findall(r"https?:", text) == []
    for image, colour in zip(page.all("img"), COLOURS):
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as thumbnail:
            assert max(thumbnail.size) <= SIDE
            np.testing.assert_allclose(np.asarray(thumbnail).mean((0, 1)), colour, atol=3)


def test_pictures_at_urls_are_shown_and_linked(tmp_path, hits, monkeypatch):
    """As `miniclip embed` writes them: here the bucket of s3://bucket is a folder."""
    opened = urls._opened
    monkeypatch.setattr(urls, "_opened", lambda url: opened(url.replace("s3://bucket", tmp_path.as_uri())))
    named = ["s3://bucket/1.png", (tmp_path / "2.png").as_uri(), "s3://bucket/none.png", "javascript://%0aalert(1)"]
    page = Page(contact_sheet.page("a title", [(name, 0.5) for name in named]))
    assert [link["href"] for link in page.all("a")] == [image["alt"] for image in page.all("img")] == named[:2]
    assert page.text.count("cannot be read") == 2 and {*named} <= {*page.text}
    pixels = np.asarray(contact_sheet.sheet("a title", [(name, 0.5) for name in named]))
    assert (pixels == COLOURS[1]).all(-1).any() and (pixels == COLOURS[2]).all(-1).any()


def test_a_page_of_texts():
    page = Page(contact_sheet.page("a title", [("a <b>red</b> heart", 0.9), ("a star", 0.1)], texts=True))
    assert page.all("img") == page.all("b") == [] and "a <b>red</b> heart" in page.text and "0.9000" in page.text


@pytest.mark.parametrize("name", ["photo.png", "page.html", "folder.png"])
def test_other_files_are_not_replaced(tmp_path, hits, name):
    path = tmp_path / name
    if name == "photo.png":
        Image.new("RGB", (9, 9)).save(path)
    elif name == "page.html":
        path.write_text("<h1>mine</h1>")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=f"{name}: exists, and the hits would replace it"):
        contact_sheet.write(path, "a title", hits)


@pytest.mark.parametrize("name", ["hits.png", "hits.HTML"])
def test_its_own_files_are_replaced(tmp_path, hits, name):
    path = tmp_path / name
    contact_sheet.write(path, "one", hits)
    before = path.read_bytes()
    contact_sheet.write(path, "two", hits)
    assert before != path.read_bytes() and [x.name for x in tmp_path.iterdir() if "incomplete" in x.name] == []


def test_forms_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"hits.jpg: the hits can be written as a picture, .png, or as a page, .html"):
        contact_sheet.check(tmp_path / "hits.jpg")
    with pytest.raises(InputError, match="a picture cannot show texts"):
        contact_sheet.check(tmp_path / "hits.png", texts=True)
    with pytest.raises(InputError, match="cannot be written"):
        contact_sheet.write(tmp_path / "none" / "hits.png", "a title", [])


def test_a_query_that_is_not_unicode_has_a_page(tmp_path):
    contact_sheet.write(tmp_path / "hits.html", "a \udcff star", [])
    assert "<h1>a ? star</h1>" in (tmp_path / "hits.html").read_text(encoding="utf-8")


def test_a_picture_has_a_thousand_hits_at_most(tmp_path):
    contact_sheet.check(tmp_path / "hits.png", 1_000)
    with pytest.raises(InputError, match="a picture of 1,001 hits is too large"):
        contact_sheet.write(tmp_path / "hits.png", "a star", [("a.png", 0.5)] * 1_001)
    contact_sheet.check(tmp_path / "hits.html", 10**9)
