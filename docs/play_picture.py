"""Draws docs/play.png, the picture of the page of `miniclip play`: python docs/play_picture.py

It draws a star with the mouse in a real browser and takes a screenshot. It needs the extra `play`, playwright, and a
Chromium on the path.
"""

import io
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 880}
LABELS = ["a yellow star and a purple heart", "a purple star and a yellow heart", "a purple heart", "a pink star"]


def star(turns=5, centre=(0.3, 0.34), radii=(0.24, 0.11), shake=0.008):
    """Points of a star that a hand might draw, as shares of the picture: the outline, then lines that fill it."""
    corners = [
        (radii[i % 2] * math.sin(math.pi * i / turns), -radii[i % 2] * math.cos(math.pi * i / turns))
        for i in range(2 * turns + 1)
    ]
    points = corners + [(0.55 * x, 0.55 * y) for x, y in corners] + [(0.25 * x, 0.25 * y) for x, y in corners]
    return [
        (centre[0] + x + shake * math.sin(3 * i), centre[1] + y + shake * math.cos(5 * i))
        for i, (x, y) in enumerate(points)
    ]


def main():
    command = [sys.executable, "-m", "miniclip", "play", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[0]
        with sync_playwright() as library:
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
            page = library.chromium.launch(**options).new_page(viewport=SIZE, color_scheme="light")
            page.goto(address)
            page.get_by_label("Labels, one on each line").fill("\n".join(LABELS))
            for name in ("yellow", "brush"):
                page.get_by_role("radio", name=name, exact=True).check(force=True)
            page.get_by_label("Size").fill("20")
            box = page.locator("#canvas").bounding_box()
            for i, (x, y) in enumerate(star()):
                page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
                if i == 0:
                    page.mouse.down()
            page.mouse.up()
            for name in ("purple", "heart"):
                page.get_by_role("radio", name=name, exact=True).check(force=True)
            page.mouse.move(box["x"] + 0.68 * box["width"], box["y"] + 0.7 * box["height"])
            page.mouse.down()
            page.mouse.move(box["x"] + 0.68 * box["width"], box["y"] + 0.92 * box["height"], steps=3)
            page.mouse.up()
            page.mouse.move(0, 0)
            page.get_by_role("radio", name=re.compile(f"^{LABELS[2]},")).check()
            page.wait_for_timeout(3000)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    finally:
        server.terminate()
    path = Path(__file__).with_name("play.png")
    picture.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
