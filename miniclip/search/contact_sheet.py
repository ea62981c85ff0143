"""A contact sheet of what a search found: a picture, drawn by Pillow, or a page of HTML that needs no other file."""

import base64
import importlib.util
import io
import os
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from miniclip.embed import urls
from miniclip.errors import InputError
from miniclip.runtime import cpu
from miniclip.runtime.files import atomic
from miniclip.runtime.pictures import on_white, open_picture

SIDE, GAP, COLUMNS = 176, 14, 5  # of a thumbnail and between them in pixels, in a row
MOST = 1000  # hits in a picture: it is in memory as a whole, and has 200 kB for each
FONT, LARGE = 13, 20  # pixels
INK, PALE, EMPTY = "#1d1f23", "#5b6068", "#f0f1f4"
MARK = "hits of miniclip search"  # in the files, so that no other file is ever replaced


def write(path, title, hits, *, texts=False):
    """Write the hits, (name, score) with the best one first, to a .png or .html file; see `check`.

    Names are paths and URLs of pictures, or with `texts` texts, which only a page can show. A picture that is missing
    or broken is shown as such.
    """
    check(path, len(hits), texts=texts)
    with atomic(path) as temporary:
        if Path(path).suffix.lower() == ".png":
            notes = PngInfo()
            notes.add_text("Title", MARK)
            sheet(title, hits).save(temporary, "PNG", pnginfo=notes)
        else:
            temporary.write_text(page(title, hits, texts=texts), encoding="utf-8", errors="replace")


def check(path, count=0, *, texts=False):
    """Raise InputError unless `write` can write `count` hits to this file: a new one, or one that it wrote before."""
    ending = Path(path).suffix.lower()
    if ending not in (".png", ".html"):
        raise InputError(f"{path}: the hits can be written as a picture, .png, or as a page, .html: choose one of them")
    if texts and ending == ".png":
        raise InputError(f"{path}: a picture cannot show texts, and this index has texts: write to an .html file")
    if ending == ".png" and count > MOST:
        raise InputError(f"{path}: a picture of {count:,} hits is too large: write to an .html file, or {MOST:,} hits")
    if os.path.lexists(path) and not _is_ours(path):
        raise InputError(f"{path}: exists, and the hits would replace it: write to another path")


def _is_ours(path):
    try:
        if Path(path).suffix.lower() == ".png":
            with Image.open(path) as picture:
                return picture.info.get("Title") == MARK
        with open(path, "rb") as file:
            return MARK.encode() in file.read(1000)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _thumbnails(names):
    """A PIL image of at most SIDE x SIDE for each name, a path or a URL, or the reason why there is none."""

    def thumbnail(name):
        try:
            picture = urls.content(name) if urls.is_url(name) else Path(name)
            image = on_white(open_picture(picture, exif=True))
            image.thumbnail((SIDE, SIDE))
            return image
        except InputError:
            return "cannot be read" if urls.is_url(name) or os.path.exists(name) else "missing"

    return cpu.on_cores(thumbnail, names, cpu.cores())


# -------------------------------------------------------------------------------------------- a picture


def sheet(title, hits):
    """The hits as a PIL image: thumbnails in rows, with their scores and the ends of their paths."""
    font, large = _font(FONT), _font(LARGE)
    columns, rows = min(max(len(hits), 3), COLUMNS), -(-len(hits) // COLUMNS)
    cell, top = SIDE + 2 * (FONT + 5), LARGE + 2 * GAP
    image = Image.new("RGB", (GAP + columns * (SIDE + GAP), top + rows * (cell + GAP)), "white")
    canvas = ImageDraw.Draw(image)
    canvas.text((GAP, GAP), _fitted(title, large, image.width - 2 * GAP), INK, large)
    for i, (hit, found) in enumerate(zip(hits, _thumbnails([name for name, _ in hits]))):
        x, y = GAP + i % COLUMNS * (SIDE + GAP), top + i // COLUMNS * (cell + GAP)
        canvas.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), EMPTY)
        if isinstance(found, str):
            canvas.text((x + SIDE / 2, y + SIDE / 2), _fitted(found, font, SIDE - 12), PALE, font, "mm")
        else:
            image.paste(found, (x + (SIDE - found.width) // 2, y + (SIDE - found.height) // 2))
        name, score = hit
        canvas.text((x, y + SIDE + 4), f"{i + 1}", PALE, font)
        canvas.text((x + SIDE, y + SIDE + 4), f"{score:.4f}", INK, font, "ra")
        canvas.text((x, y + SIDE + FONT + 9), _fitted(name, font, SIDE, keep_end=True), PALE, font)
    return image


def _font(size):
    """DejaVu Sans, if matplotlib is installed, which brings it: Pillow's own font has few letters but English."""
    package = importlib.util.find_spec("matplotlib")
    path = package and Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size) if path and path.exists() else ImageFont.load_default(size)


def _fitted(text, font, width, keep_end=False):
    """The beginning (or end) of a text, as much as fits on a line of `width` pixels."""
    text = " ".join(text.split())
    shown, left_out = text, 0
    while font.getlength(shown) > width:
        left_out += 1
        shown = f"…{text[left_out:]}" if keep_end else f"{text[:-left_out]}…"
    return shown


# ---------------------------------------------------------------------------------------- a page of HTML

STYLE = f"""
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
ol {{ list-style: none; padding: 0; display: grid; gap: 1.2rem; }}
ol.pictures {{ grid-template-columns: repeat(auto-fill, minmax({SIDE}px, 1fr)); }}
figure {{ margin: 0; }}
.frame {{ width: {SIDE}px; height: {SIDE}px; display: grid; place-items: center; background: #8882; color: inherit;
  margin-bottom: .3rem; }}
.score {{ font-variant-numeric: tabular-nums; font-weight: 600; margin-right: .6em; }}
.name {{ overflow-wrap: anywhere; opacity: .75; }}
.pictures .name {{ font-size: .85em; }}
"""


def page(title, hits, *, texts=False):
    """The hits as the text of a page of HTML, with the thumbnails in it; each one is a link to its picture."""
    kind = "texts" if texts else "pictures"
    if texts:
        items = [f"<li>{_caption(name, score)}</li>" for name, score in hits]
    else:
        thumbnails = _thumbnails([name for name, _ in hits])
        items = [f"<li>{_figure(*hit, found)}</li>" for hit, found in zip(hits, thumbnails)]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="generator" content="{MARK}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<h1>{escape(title)}</h1>
<ol class="{kind}">
{chr(10).join(items)}
</ol>
</html>
"""


def _figure(name, score, thumbnail):
    if isinstance(thumbnail, str):
        shown = f'<div class="frame">{escape(thumbnail)}</div>'
    else:
        file = io.BytesIO()
        thumbnail.save(file, "JPEG", quality=88)
        data = base64.b64encode(file.getvalue()).decode()
        link = name if urls.is_url(name) else Path(name).resolve().as_uri()
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(name)}">'
        shown = f'<a class="frame" href="{escape(link)}">{picture}</a>'
    return f"<figure>{shown}<figcaption>{_caption(name, score)}</figcaption></figure>"


def _caption(name, score):
    return f'<span class="score">{score:.4f}</span><span class="name">{escape(name)}</span>'
