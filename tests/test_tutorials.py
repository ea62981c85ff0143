"""The rules of tutorials; pages and notebooks are made from the current scripts. tutorials/test_run.py runs them."""

import ast
import base64
import functools
import json
import re
import sys
from pathlib import Path

import pytest
import render
from checkout import ROOT
from PIL import Image
from render import INDEX, LARGEST, NOTEBOOKS, RENDERED, choose, index, tutorials

import miniclip
from miniclip import kernels
from miniclip.learn.catalogue import exercises
from miniclip.viz import style

ALL = tutorials()
each_tutorial = pytest.mark.parametrize("tutorial", ALL, ids=lambda tutorial: tutorial.name)
REMEDY = "run make tutorials"
LONGEST = 25  # lines of a naive version
LONGEST_KERNEL = 45  # lines of a kernel, which has many arguments
WIDEST = 118  # columns of a line of text
LIBRARY, KERNELS = Path(miniclip.__file__).parent, Path(kernels.__file__).parent
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def public_names():
    """The names of the library's public functions and classes."""
    rooms = [*(LIBRARY / room for room in ("", "ops", "towers", "train", "viz")), KERNELS]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for room in rooms for path in room.glob("*.py")]
    names = {node.name for tree in trees for node in tree.body if isinstance(node, DEFINITIONS)}
    return {name for name in names if not name.startswith("_")}


@functools.cache
def library_sources():
    """The source of every function and method of the library, as inspect.getsource returns it, longest first."""
    sources = set()
    for path in [*LIBRARY.rglob("*.py"), *KERNELS.rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines(keepends=True)
        body = ast.parse(source).body
        methods = [node for owner in body if isinstance(owner, ast.ClassDef) for node in owner.body]
        for node in [*body, *methods]:
            if isinstance(node, ast.FunctionDef):
                first = min(part.lineno for part in (node, *node.decorator_list))
                sources.add("".join(lines[first - 1 : node.end_lineno]))
    return sorted(sources, key=len, reverse=True)


def test_the_syllabus_is_there():
    numbers = [tutorial.name.partition("_")[0] for tutorial in ALL]
    assert numbers == [f"{n:02}" for n in range(1, 11)] + ["11a", "11b", "12", "13", "14", "15", "16", "17"]
    assert "**Eighteen tutorials**" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert sum(tutorial.seconds for tutorial in ALL) <= 600


@each_tutorial
def test_a_page_is_made_from_its_current_script(tutorial):
    page = tutorial.page.read_text(encoding="utf-8")
    assert page.startswith(tutorial.stamp), REMEDY
    assert page.splitlines()[1] == f"# {tutorial.title}"
    linked = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert linked == [path.name for path in tutorial.pictures] and linked, REMEDY
    assert tutorial.page.stat().st_size + sum(path.stat().st_size for path in tutorial.pictures) < LARGEST


@each_tutorial
def test_a_notebook_is_made_from_its_current_script(tutorial):
    assert tutorial.notebook.exists(), REMEDY
    notebook = json.loads(tutorial.notebook.read_text(encoding="utf-8"))
    assert notebook["metadata"] == tutorial.metadata, REMEDY
    assert tutorial.notebook.stat().st_size < LARGEST
    title, *_ = notebook["cells"]
    assert "".join(title["source"]).startswith(f"# {tutorial.title}\n")
    page = tutorial.page.read_text(encoding="utf-8")
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}  # neither times nor widgets
        if cell["cell_type"] == "code":
            assert "".join(cell["source"]).strip("\n") in page
            assert cell["execution_count"]
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert {key for output in outputs for key in output.get("data", {})} <= {"image/png", "text/plain"}
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert [base64.b64decode(picture) for picture in pictures] == [path.read_bytes() for path in tutorial.pictures]


@each_tutorial
def test_a_notebook_has_no_paths_of_a_machine(tutorial):
    text = tutorial.notebook.read_text(encoding="utf-8")
    assert not re.findall(r"/(?:home|root|tmp|usr|opt|mnt|Users|work(?:space)?)/|site-packages|[A-Z]:\\\\", text)


@each_tutorial
def test_links_of_a_notebook_lead_somewhere(tutorial):
    cells = json.loads(tutorial.notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text)
    assert f"../{tutorial.path.name}" in targets
    assert not [target for target in targets if not (NOTEBOOKS / target).exists()]


@each_tutorial
def test_what_a_page_shows_of_the_library_is_there_as_it_is_now(tutorial):
    """Output that looks like a function must be the current source of a library function (`inspect.getsource`)."""
    page = re.sub(r"^```.*?^```", "", tutorial.page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    output = "".join(line[4:] + "\n" for line in page.splitlines() if line.startswith("    "))
    shown = 0
    for source in library_sources():
        if source in output:
            output, shown = output.replace(source, ""), shown + 1
    stale = re.findall(r"^ *def (\w+)\(", output, flags=re.MULTILINE)
    assert not stale, f"{', '.join(stale)}: not as in the library; {REMEDY}"
    assert shown >= tutorial.path.read_text(encoding="utf-8").count("inspect.getsource(")


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.id)
def test_a_tutorial_ends_with_its_exercises(exercise):
    (tutorial,) = [tutorial for tutorial in ALL if tutorial.name == exercise.tutorial]
    assert f"`{exercise.id}`" in tutorial.path.read_text(encoding="utf-8").partition("**Now you.**")[2]


@each_tutorial
def test_text_is_wrapped(tutorial):
    cells = tutorial.path.read_text(encoding="utf-8").split("# %%")
    lines = [line for cell in cells if cell.startswith(" [markdown]") for line in cell.splitlines()]
    assert not [line for line in lines if len(line) > WIDEST]


def test_a_name_that_no_tutorial_has_is_an_error():
    assert [tutorial.name for tutorial in choose(["03_attention"])] == ["03_attention"] and choose([]) == ALL
    with pytest.raises(SystemExit, match=r"no tutorial 03; choose among 01_bytes_to_tokens, "):
        choose(["03_attention", "03"])


def test_no_page_picture_or_notebook_is_left_over():
    made = {RENDERED / "held_out.png"}
    for tutorial in ALL:
        made |= {tutorial.page, *tutorial.pictures}
    assert set(RENDERED.iterdir()) == made
    assert set(NOTEBOOKS.iterdir()) == {tutorial.notebook for tutorial in ALL}


def test_the_index_shows_what_each_tutorial_leads_to():
    assert INDEX.read_text(encoding="utf-8") == index(ALL), REMEDY


@each_tutorial
def test_links_lead_somewhere(tutorial):
    for page in (tutorial.page, INDEX):
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@each_tutorial
def test_a_tutorial_needs_what_it_says(tutorial):
    tree = ast.parse(tutorial.path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    roots = {name.partition(".")[0] for i in imports for name in [getattr(i, "module", None) or i.names[0].name]}
    beyond = roots - sys.stdlib_module_names - {"miniclip", "numpy", "matplotlib"}
    packages = {"torch": "torch", "triton": "triton", "sklearn": "scikit-learn", "threadpoolctl": "scikit-learn"}
    said = {name for name, package in packages.items() if package in tutorial.needs}
    assert beyond <= said
    assert "NumPy" in tutorial.needs and "matplotlib" in tutorial.needs


@each_tutorial
def test_what_a_tutorial_defines_is_short_and_not_the_librarys(tutorial):
    source = tutorial.path.read_text(encoding="utf-8")
    defined = [n for n in ast.walk(ast.parse(source)) if isinstance(n, DEFINITIONS)]
    assert not {node.name for node in defined} & public_names()
    for node in defined:
        most = LONGEST_KERNEL if node.decorator_list else LONGEST
        assert node.end_lineno - node.lineno + 1 <= most, node.name
    assert "assert " in source and "plt.show()" in source
    assert ".subplots(" not in source  # functions that draw are in miniclip.viz


@each_tutorial
def test_pictures_fit_a_page(tutorial):
    for path in tutorial.pictures:
        with Image.open(path) as picture:
            assert picture.width <= 100 * style.WIDTH + 40, path.name
            colours = picture.convert("RGB").getcolors(1 << 24)
            assert max(count for count, _ in colours) < 0.97 * picture.width * picture.height, f"{path.name} is empty"


def test_a_small_picture_of_a_rare_colour_keeps_it():
    """A page full of other colours, as in tutorial 07, and an orange star that 49 pixels show."""
    import io

    import numpy as np

    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    page = np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], 256), np.full((256, 256), 240, np.uint8)], axis=-1)
    page[100:107, 100:107] = (240, 150, 20)
    png = io.BytesIO()
    Image.fromarray(page).save(png, "PNG")
    small = np.asarray(Image.open(io.BytesIO(render._small(png.getvalue()))).convert("RGB")).astype(int)
    assert np.abs(small - page).max() <= 24
    assert np.abs(small[103, 103] - (240, 150, 20)).max() <= 8
