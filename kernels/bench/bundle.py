"""The source of functions and of all that they use in miniclip, as one file that needs only what is not miniclip.

Names of modules are dropped: `device.expect` becomes `expect`. So are the decorators of miniclip, which check
arguments and choose a GPU. What is replaced instead of copied is in REPLACED.
"""

import ast
import importlib
import inspect
import re
import types
from functools import cache, partial

REPLACED = {
    ("miniclip.kernels.tuning", "find"): (
        "def find(kernel, key, default=None):\n    return default  # no tiles have been measured on this GPU yet"
    ),
    ("miniclip.kernels.device", "why_not"): "def why_not(device=None):\n    return None  # there is a GPU",
}


def bundle(functions, imports=(), docstrings=True):
    """The text of a file with `functions`, of miniclip or partial ones of these, and what they use, after `imports`.

    Of two definitions that have the same name, the second is named for its module too.
    """
    bundled = _Bundle()
    bundled.imports.update(imports)
    for function in functions:
        if isinstance(function, partial):
            bundled.imports.add("import functools")
        function = inspect.unwrap(_written(function))
        bundled.add(function.__module__, function.__name__)
    lines = sorted(bundled.imports, key=lambda line: (line.startswith("from"), line))
    parts = [text if docstrings else _without_docstrings(text) for text in bundled.texts.values()]
    return "\n\n\n".join(["\n".join(lines), *parts]) + "\n"


def expression(function):
    """The expression that is a function, or a partial one, in a bundle of it."""
    if not isinstance(function, partial):
        return function.__name__
    options = "".join(f", {name}={value!r}" for name, value in function.keywords.items())
    return f"functools.partial({function.func.__name__}{options})"


def _written(function):
    return function.func if isinstance(function, partial) else function


class _Bundle:
    """imports: {a line}; texts: {(module, name): source}, each after what it uses."""

    def __init__(self):
        self.imports, self.texts, self.names = set(), {}, {}

    def add(self, module, name):
        """Add the definition of a name in a module, after what it uses; returns the name that it has in the file."""
        statement = _definitions(module)[name]
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return self._follow(statement, name)
        first = _names(statement)[0]  # a = b, c: one text for all of its names
        if (module, first) in self.texts:
            return self.names[module, name]
        for each in _names(statement):
            taken = each in self.names.values()
            self.names[module, each] = f"{module.rpartition('.')[2].upper()}_{each}" if taken else each
        self.texts[module, first] = None  # it may use itself
        text = REPLACED.get((module, first)) or _text(module, statement)
        tree = ast.parse(text)
        bases = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        hidden = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}  # arguments are no modules
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in _definitions(module) and node.id not in hidden:
                inner = _module_of(_definitions(module)[node.id], node.id)
                if inner is None:
                    text = _renamed(text, node.id, self.add(module, node.id))
                elif id(node) not in bases:  # a module that is a value: for file in (one, two)
                    self._add_module(inner, node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                inner = _module_of(_definitions(module).get(node.value.id), node.value.id)
                if inner:
                    text = _renamed(text, f"{node.value.id}.{node.attr}", self.add(inner, node.attr))
        del self.texts[module, first]  # to be the last one now
        self.texts[module, first] = _renamed(text, f"def {name}", f"def {self.names[module, name]}")
        return self.names[module, name]

    def _add_module(self, module, name):
        """Add an object with the functions of a module that are for others."""
        functions = [key for key, x in _definitions(module).items() if isinstance(x, ast.FunctionDef) and key[0] != "_"]
        fields = [f"{key}={self.add(module, key)}" for key in functions]
        self.imports.add("import types")
        self.texts[module, ""] = f"{name} = types.SimpleNamespace({', '.join([*fields, f'__name__={name!r}'])})"

    def _follow(self, statement, name):
        """Add what an import brings, a line if it is not from miniclip, else the definition; returns its name."""
        (alias,) = (alias for alias in statement.names if (alias.asname or alias.name.partition(".")[0]) == name)
        written = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
        if _is_miniclips(statement):
            return self.add(statement.module, alias.name)
        source = f"from {statement.module} " if isinstance(statement, ast.ImportFrom) else ""
        self.imports.add(f"{source}import {written}")
        return name


def _renamed(text, old, new):
    """The text with another name; names of arguments, as in f(key=1), stay as they are."""
    return text if old == new else re.sub(rf"(?<![\w.]){re.escape(old)}\b(?!=[^=])", new, text)


@cache
def _definitions(module):
    """{name: the statement that defines it} of what a module defines or imports."""
    statements = ast.parse(_source(module)).body
    return {name: statement for statement in statements for name in _names(statement)}


@cache
def _source(module):
    return inspect.getsource(importlib.import_module(module))


def _names(statement):
    """The names that a statement defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [target for target in targets if isinstance(target, (ast.Name, ast.Tuple))]  # not f.versions = 2
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _module_of(statement, name):
    """The module of miniclip that a name is after an import statement; None if it is something else."""
    if _is_miniclips(statement):
        for alias in statement.names:
            if (alias.asname or alias.name) == name:
                value = getattr(importlib.import_module(statement.module), alias.name)
                return value.__name__ if isinstance(value, types.ModuleType) else None
    return None


def _text(module, statement):
    """The lines of a statement, with the comment above it, and without miniclip's decorators."""
    lines = _source(module).splitlines()
    start, decorators = statement.lineno, getattr(statement, "decorator_list", [])
    kept = [d for d in decorators if not _is_ours(module, d)]
    above = min([start, *(d.lineno for d in decorators)]) - 1
    while above and lines[above - 1].startswith("# ") and "-----" not in lines[above - 1]:
        above -= 1
    comment = lines[above : min([start, *(d.lineno for d in decorators)]) - 1]
    written = [line for d in kept for line in lines[d.lineno - 1 : d.end_lineno]]
    later = [line for more in _additions(module, statement) for line in lines[more.lineno - 1 : more.end_lineno]]
    return "\n".join([*comment, *written, *lines[start - 1 : statement.end_lineno], *later])


def _additions(module, statement):
    """The statements that add to what a statement defines: NAMES |= {...}."""
    added = (node for node in ast.parse(_source(module)).body if isinstance(node, ast.AugAssign))
    return [node for node in added if ast.unparse(node.target) in _names(statement)]


def _is_ours(module, decorator):
    while isinstance(decorator, (ast.Call, ast.Attribute)):
        decorator = decorator.func if isinstance(decorator, ast.Call) else decorator.value
    return _is_miniclips(_definitions(module).get(decorator.id))


def _is_miniclips(statement):
    """Whether a statement imports from miniclip."""
    return isinstance(statement, ast.ImportFrom) and statement.module.partition(".")[0] == "miniclip"


def _without_docstrings(text):
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            string = node.body[0]
            replacement = [" " * string.col_offset + "..."] if len(node.body) == 1 else []
            lines[string.lineno - 1 : string.end_lineno] = [None] * (string.end_lineno - string.lineno + 1)
            if replacement:
                lines[string.lineno - 1] = replacement[0]
    return "\n".join(line for line in lines if line is not None)
