"""The installed package: its files, and the cost of importing it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT

AFTERNOON = ["image", "tokenizer", "ops/numpy_ops", "towers/transformer", "towers/vit", "towers/text", "model"]
NOT_EDITABLE = (
    "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)];"  # as if removed
)


def test_importing_miniclip_loads_no_heavy_package():
    heavy = ["torch", "triton", "transformers", "jax", "tensorflow", "h5py", "matplotlib", "scipy"]
    for package, expected in (("miniclip", []), ("miniclip.hf", ["torch"])):  # hf's models are torch modules
        code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(expected)


def loaded_by(statement):
    """The modules of miniclip that are loaded after a statement, in a new process."""
    code = f"import sys; {statement}; print(*[name for name in sys.modules if name.partition('.')[0] == 'miniclip'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_miniclip_loads_no_rooms_before_they_are_used():
    assert set(loaded_by("import miniclip")) <= {"miniclip", "miniclip._version"}
    assert "miniclip.checkpoints" in loaded_by("import miniclip; miniclip.load")


def test_the_model_imports_little():
    """These are the modules that a reader of the seven files may have to look into."""
    assert len(loaded_by("import miniclip.model")) <= 25


def test_help_imports_no_numpy():
    code = "import sys; from miniclip import cli\ntry: cli.main(['--help'])\nfinally: print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False"


def test_classifying_on_numpy_loads_no_torch():
    code = (
        "import sys, numpy, miniclip; model, preprocess = miniclip.load();"
        "model(preprocess([numpy.zeros((9, 9), numpy.uint8)]), model.tokenize('a')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_checkout_on_the_path_works_without_installing(tmp_path):
    code = NOT_EDITABLE + (
        f"sys.path.insert(0, {str(ROOT)!r});"
        "import miniclip.kernels, miniclip.weights; miniclip.load(); print(miniclip.weights.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == str(ROOT / "weights" / "__init__.py")


@pytest.fixture(scope="module")
def wheel(wheel_folder):
    return names_in(wheel_folder)


@pytest.fixture(scope="module")
def wheel_folder(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, without environments and what other builds made."""
    source = tmp_path_factory.mktemp("checkout") / "miniclip"
    made = shutil.ignore_patterns(".*", "__pycache__", "build", "site", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=made)
    return source


def build_wheel(source, target):
    """Build the wheel of a folder or an sdist in the folder `target`, without warnings; returns `target`."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(build, check=True, capture_output=True)
    return target


def names_in(folder):
    """The names in the wheel in a folder."""
    (path,) = folder.glob("*.whl")
    return {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_module_under_its_name(wheel):
    places = {"miniclip": "miniclip", "kernels": "miniclip/kernels", "weights": "miniclip/weights"}
    expected = {
        str(Path(place, path.relative_to(ROOT / name)))
        for name, place in places.items()
        for path in (ROOT / name).rglob("*.py")
    }
    assert {name for name in wheel if name.endswith(".py")} == expected


def test_the_wheel_holds_the_built_in_model_and_the_type_marker(wheel):
    others = {name for name in wheel if not name.endswith(".py")}
    results = {"miniclip": ROOT / "miniclip" / "bench", "miniclip/kernels": ROOT / "kernels" / "bench"}
    records = [(package, path) for package, place in results.items() for path in place.rglob("*.jsonl")]
    assert others == {
        *(f"{package}/bench/results/{path.name}" for package, path in records),
        *(f"miniclip/play/static/{path.name}" for path in (ROOT / "miniclip" / "play" / "static").iterdir()),
        "miniclip/py.typed",
        "miniclip/learn/exercises.toml",
        "miniclip/learn/README.md",
        "miniclip/learn/INSTRUCTORS.md",
        "miniclip/kernels/README.md",
        "miniclip/kernels/tuned.json",
        "miniclip/weights/manifest.json",
        "miniclip/weights/open_clip.json",
        "miniclip/weights/captions.safetensors",
        "miniclip/weights/shapes.safetensors",
        "miniclip/weights/example.png",
    }


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("sdist")
    code = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, target], cwd=source, check=True, capture_output=True)
    (path,) = target.glob("*.tar.gz")
    return path


def test_the_sdist_builds_the_same_wheel(wheel, sdist, tmp_path):
    assert names_in(build_wheel(sdist, tmp_path)) == wheel


def test_the_metadata_names_authors_and_has_no_relative_links(wheel_folder):
    (path,) = wheel_folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    assert "\nAuthor: The miniclip authors\n" in metadata and metadata.count("\nClassifier: ") >= 10
    description = metadata.partition("\n\n")[2]
    assert "import miniclip" in description and not re.search(r"\]\((?!https:)", description)


def test_an_editable_install_is_a_path_that_type_checkers_follow(source, tmp_path):
    code = "import sys; from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (link,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(link).decode().strip() == str(source)


def test_the_first_python_of_the_readme_passes_a_type_checker(tmp_path):
    pytest.importorskip("mypy", reason="make lint installs it")
    first = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "first.py").write_text(first[1])
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--ignore-missing-imports",
        "--cache-dir",
        ROOT / ".mypy_cache",
        "first.py",
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout


def test_a_wheel_does_not_send_anyone_into_a_checkout(wheel_folder, tmp_path):
    (path,) = wheel_folder.glob("*.whl")
    zipfile.ZipFile(path).extractall(tmp_path)
    code = NOT_EDITABLE + (
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.modules['torch'] = None;"
        "from miniclip import cli; from miniclip.bench import records, report_cpu;"
        "print(cli.__file__, records.own(report_cpu.RESULTS), sep='\\n'); cli.main(['train', 'shapes'])"
    )
    environment = {**os.environ, "MINICLIP_CACHE": "/cache"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.splitlines() == [str(tmp_path / "miniclip/cli/__init__.py"), "/cache/bench/miniclip"]
    assert done.stderr == "miniclip: the torch backend needs torch: pip install 'miniclip[train]'\n"


def test_the_sdist_holds_the_whole_checkout(source, sdist):
    """Tests and tutorials too, and what they need."""
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    made = re.compile(r"build/|miniclip\.egg-info/|PKG-INFO$|setup\.cfg$")  # by setuptools
    assert {name for name in held if not made.match(name)} == {name for name in files if not made.match(name)}
    assert not any(name.startswith(("build/", ".")) for name in held)


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_python_of_a_page_runs_and_prints_what_it_says(page, monkeypatch, capsys):
    """test_ways_in runs the code of docs/migrating.md."""
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    printed = [line.partition("# ")[2] for block in blocks for line in block.splitlines() if line.startswith("print")]
    assert printed
    scope = {}
    for block in blocks:
        exec(block, scope)
    assert capsys.readouterr().out.splitlines() == printed


def test_the_readme_shows_what_classify_prints():
    command = ["-m", "miniclip", "classify", "weights/example.png", "--labels"]
    labels = ["a red heart", "a red circle", "a blue heart", "a pink star"]
    done = subprocess.run([sys.executable, *command, *labels], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout in (ROOT / "README.md").read_text()


def test_the_files_that_the_afternoon_skips_are_listed():
    loaded = {
        name.removeprefix("miniclip.").replace(".", "/") for name in loaded_by("import miniclip.model, miniclip.image")
    }
    packages = {path.parent.name for path in (ROOT / "miniclip").glob("**/__init__.py")} | {"_version"}
    page = (ROOT / "CONTRIBUTING.md").read_text().partition("### What the afternoon skips")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `(\S+)\.py`", page, re.MULTILINE))
    assert listed == loaded - packages - set(AFTERNOON) | {"ops/__init__"}


def test_public_names_are_listed_alike():
    import miniclip

    assert {*miniclip.__all__} == {*miniclip._MODULES, "zero_shot"}


def test_the_afternoon_promise():
    """The README lists these files in this order, and together they have at most 850 lines."""
    afternoon = (ROOT / "README.md").read_text().partition("## The afternoon")[2].partition("\n## ")[0]
    assert re.findall(r"\(miniclip/(.*?)\.py\)", afternoon) == AFTERNOON
    lines = sum(len((ROOT / "miniclip" / f"{name}.py").read_text().splitlines()) for name in AFTERNOON)
    assert lines <= 850


def test_rooms_are_attributes_of_miniclip():
    code = "import miniclip; print(miniclip.hf.__name__, miniclip.config.pair(3), hasattr(miniclip, 'nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "miniclip.hf (3, 3) False\n"
