"""Writes the files that a student starts from: the reference's signature and docstring, without its body.

They are taken from the reference's source, so the two cannot drift apart. Imports are those that the reference uses.
"""

import ast
import importlib.util
import textwrap
from pathlib import Path

from miniclip.errors import InputError
from miniclip.learn import catalogue
from miniclip.runtime.files import write_atomically

README = """\
# CLIP, written by you

Each file is a function of miniclip without its body. The signature and the docstring say what it takes and gives.
Write the body instead of `raise NotImplementedError`, then check it:

```
miniclip learn check {directory} {first}    # one exercise: its laws, and a hint if one fails
miniclip learn check {directory}{blank}    # all of them
miniclip learn progress {directory}{blank} # what is done, and what comes next
miniclip learn payoff {directory}{blank}   # your functions in a trained model
```

If a function needs others, it imports them from the library. So you can begin with any exercise.
"""


def start(directory, exercises):
    """Write a file for each exercise that has none, and a README; returns the paths. Nothing is overwritten."""
    directory = Path(directory)
    if directory.is_file():
        raise InputError(f"{directory}: is a file; name a directory, it is created if it does not exist")
    wanted = {exercise.file or exercise.id for exercise in exercises}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = {e.path(directory): skeleton(e) for e in catalogue.exercises() if e.id in wanted}
        first = exercises[0].id
        blank = " " * (len(first) + 1)
        files[directory / "README.md"] = README.format(directory=directory, first=first, blank=blank)
        missing = {path: text for path, text in files.items() if not path.exists()}
        for path, text in missing.items():
            write_atomically(path, text.encode())
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error}") from error
    return list(missing)


def skeleton(exercise):
    """The source of the file that a student starts from."""
    source = _path(exercise).read_text(encoding="utf-8")
    tree, function = ast.parse(source), reference(exercise)
    header = f'"""{exercise.title}. (miniclip learn check DIRECTORY {exercise.id}; tutorial {exercise.tutorial})"""\n'
    imports = "".join(f"\n{group}\n" for group in _imports(exercise, tree, function))
    note = "".join(f"# {line}\n" for line in exercise.note.splitlines())
    return f"{header}{imports}\n\n{note}{_without_body(source, function)}"


def line_of(exercise):
    """Where the reference is: (path, line)."""
    return _path(exercise), reference(exercise).lineno


def reference(exercise):
    """The syntax tree of the reference's function."""
    return find(ast.parse(_path(exercise).read_text(encoding="utf-8")), exercise.function)


def find(tree, name):
    """The definition in a module's tree, "function" or "class.method"."""
    for part in name.split("."):
        (tree,) = (node for node in tree.body if getattr(node, "name", None) == part)
    return tree


def _path(exercise):
    return Path(importlib.util.find_spec(exercise.module).origin)


def _imports(exercise, tree, function):
    """Groups of import statements for each public name that the reference uses; the last group is the library's own."""
    origins = {}  # name -> the module to import it from, or the statement that imports it
    for node in tree.body:
        for alias in getattr(node, "names", []):
            origins[alias.asname or alias.name] = getattr(node, "module", None) or ast.unparse(node)
        origins |= dict.fromkeys(_defined(node), exercise.module)
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} | set(exercise.imports) | {"np"}
    if exercise.track == "numpy":
        origins.setdefault("np", "import numpy as np")
    modules = {}  # module -> names from it
    for name in sorted(name for name in names & origins.keys() if not name.startswith("_")):
        modules.setdefault(origins[name], []).append(name)
    statements = [o if o.startswith("import ") else f"from {o} import {', '.join(n)}" for o, n in modules.items()]
    groups = [sorted(s for s in statements if ("miniclip" in s) == ours) for ours in (False, True)]
    return ["\n".join(sorted(group, key=lambda s: s.startswith("from"))) for group in groups if group]


def _defined(node):
    if isinstance(node, ast.Assign):
        names = [name for target in node.targets for name in ast.walk(target)]
        return [name.id for name in names if isinstance(name, ast.Name)]
    return [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []


def _without_body(source, function):
    """Decorators except @classmethod, then signature and docstring as they are in the source."""
    lines = source.splitlines(keepends=True)
    decorators = [ast.unparse(d) for d in function.decorator_list]
    head = [f"@{decorator}\n" for decorator in decorators if decorator != "classmethod"]
    upto = lines[function.lineno - 1 : function.body[0].end_lineno]  # the first statement is the docstring
    return "".join([*head, textwrap.dedent("".join(upto)), "    raise NotImplementedError\n"])
