"""What `make docs` does beside mkdocs: the site has the repository's pages under their own paths, without copies.

A link from one page to another is then the same on a code host and in the site. A link to a source file leads to a page
that shows the file. Formulas become MathML, which browsers draw without a script.
"""

import html
import os
import re
import shutil
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "build" / "package" / "miniclip"  # mkdocs.yml names it
PAGES = [
    "*.md",
    "docs/**/*.md",
    "kernels/*.md",
    "miniclip/**/*.md",
    "tutorials/**/*.md",
    "findings/*.md",
    "weights/*.md",
]
CODE = {".py": "python", ".toml": "toml", ".json": "json"}  # files that are shown, by the language of their code block
ELSEWHERE = re.compile(r"<(?:script|link|img|iframe|source|video)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
LINK = re.compile(r"(?<=\]\()(?!https?:)([^)#\s]+)")


def on_startup(command, dirty):
    """Lay the sources out as they are installed, for what reads them."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    for folder, place in (("miniclip", PACKAGE), ("kernels", PACKAGE / "kernels"), ("weights", PACKAGE / "weights")):
        for path in (ROOT / folder).rglob("*.py"):
            copy = place / path.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


def on_config(config):
    """Put every tutorial's page into the navigation."""
    (tutorials,) = (section["Tutorials"] for section in config.nav if "Tutorials" in section)
    tutorials += sorted(_name(path) for path in ROOT.glob("tutorials/rendered/*.md"))
    return config


def on_files(files, config):
    """The theme's files, the repository's pages, and what they link to; each under its path in the repository."""
    docs = Path(config.docs_dir)
    site = Files([file for file in files if not (file.abs_src_path and docs in Path(file.abs_src_path).parents)])
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    linked = {path for page in pages if page.suffix == ".md" for path in _linked(page).values()}
    for path in pages:
        site.append(File.generated(config, _name(path), abs_src_path=str(path)))
    for path in sorted(linked - {*pages}):
        if path.suffix in CODE:
            site.append(File.generated(config, _name(path) + ".md", content=_shown(path)))
        else:
            site.append(File.generated(config, _name(path), abs_src_path=str(path)))
    return site


def on_page_markdown(markdown, page, config, files):
    """The page without the comment that may come before its title; links to source files lead to what shows them."""
    markdown = re.sub(r"\A<!--.*?-->\s*", "", markdown, flags=re.DOTALL)
    linked = _linked(ROOT / page.file.src_uri)
    return LINK.sub(lambda m: m[0] + ".md" if linked.get(m[0], ROOT).suffix in CODE else m[0], markdown)


def on_page_content(content, page, config, files):
    """Formulas, which arithmatex has marked, as MathML; sources by their path in the repository."""

    def mathml(found):
        block = found[1] == "div"
        return convert(html.unescape(found[2]), display="block" if block else "inline")

    content = content.replace("build/package/miniclip/kernels/", "kernels/").replace("build/package/", "")
    return re.sub(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', mathml, content, flags=re.DOTALL)


def on_post_build(config):
    """PluginError if a page would load a script, a style, a font or a picture from another host."""
    for page in Path(config.site_dir).rglob("*.html"):
        found = ELSEWHERE.search(page.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{page} loads from another host: {found[0]}")


def _linked(page):
    """{target of a link: the file that it leads to}, of the files in the repository."""
    if not page.is_file():
        return {}
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = {target: Path(os.path.normpath(page.parent / target)) for target in LINK.findall(text)}
    return {target: path for target, path in found.items() if path.is_file()}


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _shown(path):
    head = "---\nsearch: {exclude: true}\nhide: [navigation, toc]\n---"
    return f"{head}\n# {_name(path)}\n\n````{CODE[path.suffix]}\n{path.read_text(encoding='utf-8')}````\n"
