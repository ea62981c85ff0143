"""A function with a common mistake in it: the reference, with a piece of its syntax tree replaced.

An edit is a pattern and its replacement, each one expression or statement of Python. The pattern is compared with the
function's tree, so comments, docstrings, line breaks, parentheses and quotes make no difference. It must fit once.

    _x     a name that begins with an underscore fits any expression; repeated, the same one
    ...    at the end of a call's arguments fits the rest of them

In the replacement they mean what they fitted: "_x - _x.max()" -> "_x", "f(_x, ...)" -> "f(2 * _x, ..., causal=True)".
"""

import ast
import importlib
import itertools
import linecache

from miniclip.learn import skeletons

_numbers = itertools.count()


def function(exercise, mutant, reference=None):
    """The function that has a mutant's mistake; it sees the globals of the reference's module, which stay as they are.

    `reference` is the tree of the right one, if not as it is in the module. Raises ValueError for an edit that does not
    fit exactly once.
    """
    source, scope = ast.unparse(mistaken(exercise, mutant, reference or skeletons.reference(exercise))), {}
    file = f"<mistake {next(_numbers)} in {exercise.target}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # where Triton reads its kernels
    exec(compile(source, file, "exec"), vars(importlib.import_module(exercise.module)), scope)
    return scope[exercise.name]


def mistaken(exercise, mutant, reference):
    tree = ast.parse(ast.unparse(reference))
    definition = tree.body[0]
    definition.decorator_list = [d for d in definition.decorator_list if ast.unparse(d) != "classmethod"]
    if body := mutant.instead or exercise.plain:
        definition.body = ast.parse(body).body
    for pattern, replacement in mutant.edits:
        tree = _edit(tree, pattern, replacement, exercise.target)
    return tree


def _edit(tree, pattern, replacement, where):
    old = _parse(pattern)[0]
    found = [(node, fits) for node in ast.walk(tree) if _fit(old, node, fits := {})]
    if len(found) != 1:
        raise ValueError(f"{where}: {len(found)} pieces fit {pattern!r}, expected one")
    ((node, fits),) = found
    return _Replace(node, [_Fill(fits).visit(piece) for piece in _parse(replacement)]).visit(tree)


def _parse(text):
    """Statements, or the one expression that the text is."""
    body = ast.parse(text).body
    return [body[0].value] if len(body) == 1 and isinstance(body[0], ast.Expr) else body


def _is_rest(node):
    return isinstance(node, ast.Constant) and node.value is ...


def _fit(pattern, node, fits):
    """Whether a tree fits a pattern; `fits` gets what the pattern's `_x` and `...` fit."""
    if isinstance(pattern, ast.Name) and pattern.id.startswith("_"):
        return isinstance(node, ast.expr) and ast.unparse(fits.setdefault(pattern.id, node)) == ast.unparse(node)
    if type(pattern) is not type(node):
        return False
    if isinstance(pattern, ast.Call) and pattern.args and _is_rest(pattern.args[-1]):
        fixed = len(pattern.args) - 1
        fits["..."] = node.args[fixed:], node.keywords
        return _fit([pattern.func, *pattern.args[:fixed]], [node.func, *node.args[:fixed]], fits)
    if isinstance(pattern, list):
        return len(pattern) == len(node) and all(_fit(p, n, fits) for p, n in zip(pattern, node))
    if isinstance(pattern, ast.AST):
        fields = [name for name in pattern._fields if name != "ctx"]  # whether it is read or written
        return all(_fit(getattr(pattern, name), getattr(node, name), fits) for name in fields)
    return pattern == node


class _Fill(ast.NodeTransformer):
    """Fills a replacement in: puts what was fitted instead of `_x` and `...`."""

    def __init__(self, fits):
        self.fits = fits

    def visit_Name(self, node):
        return self.fits.get(node.id, node)

    def visit_Call(self, node):
        if any(map(_is_rest, node.args)):
            args, keywords = self.fits["..."]
            node.args = [arg for arg in node.args if not _is_rest(arg)] + args
            node.keywords = keywords + node.keywords
        return self.generic_visit(node)


class _Replace(ast.NodeTransformer):
    """Replaces `node` by statements or by one expression."""

    def __init__(self, node, pieces):
        self.node, self.pieces = node, pieces

    def visit(self, node):
        if node is not self.node:
            return self.generic_visit(node)
        return self.pieces if isinstance(node, ast.stmt) else self.pieces[0]
