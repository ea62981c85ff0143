"""The layers: which room may import which. All imports are read with ast, also those inside functions."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from checkout import ROOT

PLACES = {"miniclip": ROOT / "miniclip", "miniclip.kernels": ROOT / "kernels", "miniclip.weights": ROOT / "weights"}

# From lowest to highest. A module belongs to the longest matching prefix, and imports only from its own layer or below.
LAYERS = [
    ["miniclip._version", "miniclip.errors"],
    ["miniclip.params", "miniclip.weights", "miniclip.runtime"],
    ["miniclip.ops", "miniclip.kernels", "miniclip.loss", "miniclip.chunked_loss"],
    ["miniclip.towers"],
    ["miniclip.config"],
    ["miniclip.inputs"],
    ["miniclip.model", "miniclip.tokenizer", "miniclip.tokenizers", "miniclip.image", "miniclip.zero_shot"],
    ["miniclip.encode", "miniclip.identity"],
    ["miniclip.kernels.serving"],
    ["miniclip.formats"],
    ["miniclip.families"],
    ["miniclip.checkpoints"],
    ["miniclip.torch_arrays", "miniclip.torch_modules"],
    ["miniclip.fetch"],
    ["miniclip.api", "miniclip.clip", "miniclip"],
    [
        "miniclip.hf",
        "miniclip.train",
        "miniclip.learn",
        "miniclip.bench",
        "miniclip.kernels.bench",
        "miniclip.viz",
        "miniclip.embed",
        "miniclip.search",
        "miniclip.evaluate",
        "miniclip.probe",
        "miniclip.explain",
        "miniclip.caption",
        "miniclip.play",
        "miniclip.hints",
        "miniclip.export",
        "miniclip.doctor",
    ],
    ["miniclip.cli", "miniclip.__main__", "miniclip.train.__main__"],
]
RANKS = {prefix: rank for rank, layer in enumerate(LAYERS) for prefix in layer}


def modules():
    """{dotted name: path} of every module of the package."""
    found = {}
    for package, place in PLACES.items():
        for path in place.rglob("*.py"):
            parts = path.relative_to(place).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = modules()


def imports(name, source):
    """The modules of the package that a source imports anywhere. (Parent packages are not counted.)"""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys()  # from package import module
            found |= {node.module} if names - MODULES.keys() else set()  # from module import name
    return (found & MODULES.keys()) - {name}


IMPORTS = {name: imports(name, path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def rank(name):
    prefixes = [prefix for prefix in RANKS if name == prefix or name.startswith(f"{prefix}.")]
    return RANKS[max(prefixes, key=len)]


def test_every_room_has_a_layer():
    rooms = {".".join(name.split(".")[:2]) for name in MODULES}
    assert rooms <= RANKS.keys()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_imports_from_above(name):
    if name == "miniclip":  # its names are imported when they are first used
        return
    assert {other for other in IMPORTS[name] if rank(other) > rank(name)} == set()


def test_there_is_no_circle():
    graph = {name: others for name, others in IMPORTS.items() if name != "miniclip"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_only_kernels_import_triton():
    # The course's Triton track uses the interpreter.
    outside = [name for name in MODULES if not name.startswith(("miniclip.kernels", "miniclip.learn.laws.kernels"))]
    heavy = {name for name in outside for line in MODULES[name].read_text().splitlines() if _imports(line, "triton")}
    assert heavy == set()


def _imports(line, package):
    return line.strip().startswith((f"import {package}", f"from {package}"))


def test_families_are_named_once():
    from miniclip import families

    assert tuple(family.name for family in families.every()) == families.FAMILIES
    for family in families.every():  # a property: the configuration decides
        given = family.config.tokenizer
        assert given == family.tokenizer.__name__ or isinstance(given, property)


def test_model_imports_no_reader_of_files():
    readers = ("miniclip.formats", "miniclip.checkpoints", "miniclip.fetch", "miniclip.families")
    seen, new = set(), {"miniclip.model"}
    while new:
        seen |= new
        new = {other for name in new for other in IMPORTS[name]} - seen
    assert [name for name in seen if name.startswith(readers)] == []
