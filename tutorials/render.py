"""Makes pages and notebooks of tutorials: `python tutorials/render.py [NAME...]`, or `make tutorials` for all.

A tutorial is a script whose comments are Markdown ("percent format"). It is run as a notebook; its text, code, output
and pictures become a page in `rendered/` and a notebook in `notebooks/`. Both contain the hash of their source, so that
a test finds stale ones. The index is made from the headers of the scripts.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RENDERED = HERE / "rendered"
NOTEBOOKS = HERE / "notebooks"
INDEX = HERE / "README.md"
LARGEST = 300_000  # bytes that a page with its pictures may have, and a notebook
PAGE_LINK = re.compile(r"(?<=\]\()(\d\d[a-z]?_\w+)\.md")  # a link from one page to another
HEADER = re.compile(
    r"# %% \[markdown\] # (?P<title>\d\d[a-z]? · .+?) - \*\*Builds\*\*: (?P<builds>.+?)\."
    r" - \*\*Time\*\*: (?P<seconds>\d+) s on 2 cores\. - \*\*Needs\*\*: (?P<needs>.+?)\. - \*\*Before\*\*: "
)
INTRODUCTION = """\
<!-- made by `make tutorials` from the headers of the scripts -->
# Tutorials

CLIP from its bytes to its kernels, in steps that each take an hour to read. Each step builds a naive version in plain
loops, then checks that the library's version agrees with it, then shows it in a trained model. Each page is a script
that runs by itself and checks every number in its text. Each is also a notebook with its outputs, in `notebooks/`. For
exercises with a grader, which applies the same laws as the library's tests, see
[the course](../miniclip/learn/README.md).

```
make demo                                         # an environment with miniclip itself
. .venv/bin/activate
pip install -c constraints.txt matplotlib         # enough for most of them
pip install -c constraints.txt -e ".[gpu,probe]"  # for 06, 09, 12, 13, 15, 16, 17: torch, Triton, scikit-learn
python tutorials/03_attention.py                  # runs one, and shows its pictures if there is a screen
make test-tutorials                               # runs all, and prints how long each took
make tutorials                                    # runs all, and makes the pages and the notebooks again
```"""


@dataclass(frozen=True)
class Tutorial:
    """A script and the fields of its header; `seconds` is the time that it should take on 2 cores."""

    path: Path
    title: str
    builds: str
    seconds: int
    needs: str

    @property
    def name(self):
        return self.path.stem

    @property
    def page(self):
        return RENDERED / f"{self.name}.md"

    @property
    def notebook(self):
        return NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def pictures(self):
        """The pictures of its page, in order; the index shows the last."""
        return sorted(RENDERED.glob(f"{self.name}_*.png"), key=lambda path: int(path.stem.rpartition("_")[2]))

    @property
    def digest(self):
        """The SHA-256 of the source, which the page and the notebook contain."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def stamp(self):
        """The first line of the page: the script that it was made from, and its hash."""
        return f"<!-- made by `make tutorials` from {self.path.name}, SHA-256 {self.digest} -->\n"

    @property
    def metadata(self):
        """The notebook's metadata: its language, and the script that it was made from; nothing about this machine."""
        return {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "miniclip": {"made_by": "make tutorials", "source": self.path.name, "sha256": self.digest},
        }


def tutorials():
    """All tutorials, in order. Raises ValueError naming a script with an incomplete header."""
    return [_read(path) for path in sorted(HERE.glob("[0-9][0-9]*_*.py"))]


def _read(path):
    found = HEADER.match(re.sub(r"\s*\n# *", " ", path.read_text(encoding="utf-8")))
    if not found:
        raise ValueError(f"{path}: the header must have a title, Builds, Time, Needs and Before, as in 03_attention.py")
    fields = found.groupdict()
    return Tutorial(path, fields["title"].strip(), fields["builds"], int(fields["seconds"]), fields["needs"])


def render(tutorial, rendered=RENDERED, notebooks=NOTEBOOKS):
    """Run a tutorial as a notebook; write its page and pictures into `rendered`, the notebook into `notebooks`.

    Raises the error of its code, if there is one, and writes nothing.
    """
    import nbformat
    from nbconvert import MarkdownExporter

    notebook = _execute(tutorial)
    body, resources = MarkdownExporter().from_notebook_node(notebook)
    pictures = [name for name in resources["outputs"] if name.endswith(".png")]
    for path in rendered.glob(f"{tutorial.name}_*.png"):
        path.unlink()
    for number, name in enumerate(pictures, 1):
        file = f"{tutorial.name}_{number}.png"
        before, _, after = body.partition(f"![png]({name})")
        body = f"{before}![{_alternative(tutorial.title, before, number)}]({file}){after}"
        (rendered / file).write_bytes(resources["outputs"][name])
    body = re.sub(r"(```python\n)\n+", r"\1", body)  # blank lines before a function
    made = f"made from [`tutorials/{tutorial.path.name}`](../{tutorial.path.name}), which runs as a script"
    other = f"[as a notebook](../notebooks/{tutorial.notebook.name})"
    page = [tutorial.stamp + body.strip("\n"), "", f"*This page is {made}; the same {other}.*", ""]
    (rendered / tutorial.page.name).write_text("\n".join(page), encoding="utf-8")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = PAGE_LINK.sub(r"\1.ipynb", cell.source)
    other = f"[as a page](../rendered/{tutorial.page.name})"
    notebook.cells.append(nbformat.v4.new_markdown_cell(f"*This notebook is {made}; the same {other}.*"))
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = str(number), {}  # by default a random id, and the time that the cell took
    notebook.metadata = tutorial.metadata
    nbformat.validate(notebook)
    text = nbformat.writes(notebook, version=4, ensure_ascii=False) + "\n"
    (notebooks / tutorial.notebook.name).write_text(text, encoding="utf-8")


def _alternative(title, before, number):
    """The text for anyone who does not see a picture: the page's title, the section that `before` ends in, a number."""
    sections = re.findall(r"^##+ (.*)", before, re.MULTILINE)
    return ", ".join([title, *(re.sub("[`$*]", "", section) for section in sections[-1:]), f"picture {number}"])


def _execute(tutorial):
    """The notebook of a tutorial with its outputs and small pictures. Raises the error of its code, if any."""
    import jupytext
    from nbclient import NotebookClient
    from traitlets.config import Config

    os.environ.pop("MPLBACKEND", None)  # pictures go into the notebook
    notebook = jupytext.read(tutorial.path, fmt="py:percent")
    with tempfile.TemporaryDirectory() as directory:  # for the kernel's sockets: no port is opened
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{directory}/kernel"}})
        resources = {"metadata": {"path": str(HERE)}}
        NotebookClient(
            notebook, config=config, kernel_name="python3", timeout=900, resources=resources, coalesce_streams=True
        ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"{tutorial.path}: a cell wrote to stderr: {output['text']}")
            if "image/png" in output.get("data", {}):
                small = _small(base64.b64decode(output["data"]["image/png"]))
                output["data"], output["metadata"] = {"image/png": base64.b64encode(small).decode()}, {}
    return notebook


def _small(png):
    """The picture in 256 colours, which takes a third of the bytes.

    They cover all colours: by default Pillow prefers frequent ones, and a small orange star becomes yellow.
    """
    from PIL import Image

    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, 1, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def index(tutorials):
    """The index page: what each tutorial builds, and its last picture."""
    lines = [INTRODUCTION]
    for tutorial in tutorials:
        page = f"rendered/{tutorial.page.name}"
        lines += [
            "",
            f"## [{tutorial.title}]({page})",
            "",
            f"Builds {tutorial.builds}. {tutorial.seconds} s on 2 cores; needs {tutorial.needs}.",
            "",
            f"[![the last picture of {tutorial.title}](rendered/{tutorial.pictures[-1].name})]({page})",
        ]
    return "\n".join([*lines, ""])


def choose(names):
    """The tutorials with these names, all if none are given. Raises SystemExit for an unknown name, with the list."""
    everything = {tutorial.name: tutorial for tutorial in tutorials()}
    unknown = [name for name in names if name not in everything]
    if unknown:
        raise SystemExit(f"there is no tutorial {', '.join(unknown)}; choose among {', '.join(everything)}")
    return [tutorial for name, tutorial in everything.items() if not names or name in names]


def main():
    parser = argparse.ArgumentParser(description="Run tutorials; write their pages and notebooks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 03_attention (default: all)")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="folder for both (default: here)")
    options = parser.parse_args()
    folders = [options.out / folder.name for folder in (RENDERED, NOTEBOOKS)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for tutorial in choose(options.names):
        print(tutorial.name, flush=True)
        render(tutorial, *folders)
    if options.out == HERE:
        INDEX.write_text(index(tutorials()), encoding="utf-8")


if __name__ == "__main__":
    main()
