"""Parameter trees: nested dicts and lists with arrays (or shapes) as leaves.

A leaf's flat name is the keys on its path, joined with dots: "visual.blocks.0.mlp.fc.weight".
"""

from miniclip.errors import InputError


def flatten(tree, prefix=""):
    """Tree -> {flat name: leaf}, in the tree's order; everything except a dict or a list is a leaf."""
    if not isinstance(tree, (dict, list)):
        return {prefix: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat: dict = {}
    for key, branch in items:
        flat |= flatten(branch, f"{prefix}.{key}" if prefix else str(key))
    return flat


def unflatten(flat):
    """{flat name: leaf} -> tree, the inverse of `flatten`; keys 0, 1, 2, ... become a list."""
    tree: dict = {}
    for name, leaf in flat.items():
        *path, last = name.split(".")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = leaf
    return _lists(tree)


def _lists(tree):
    if not isinstance(tree, dict):
        return tree
    branches = {key: _lists(branch) for key, branch in tree.items()}
    numbers = [str(i) for i in range(len(branches))]
    return [branches[i] for i in numbers] if numbers and set(branches) == set(numbers) else branches


def tree_map(function, tree):
    """The tree of `function(leaf)` for each leaf."""
    if isinstance(tree, dict):
        return {key: tree_map(function, branch) for key, branch in tree.items()}
    if isinstance(tree, list):
        return [tree_map(function, branch) for branch in tree]
    return function(tree)


def check(params, shapes, source):
    """Compare a parameter tree with a tree of shapes; InputError lists missing, unexpected and misshaped parameters."""
    have, want = flatten(params), flatten(shapes)
    wrong = [f"missing {name} {want[name]}" for name in want if name not in have]
    wrong += [f"unexpected {name} {tuple(have[name].shape)}" for name in have if name not in want]
    wrong += [
        f"{name} is {tuple(have[name].shape)}, expected {want[name]}"
        for name in want
        if name in have and tuple(have[name].shape) != want[name]
    ]
    if wrong:
        listed = "".join(f"\n  {line}" for line in wrong[:20])
        more = f"\n  and {len(wrong) - 20} more" if len(wrong) > 20 else ""
        raise InputError(f"{source}: the parameters do not fit the model's configuration:{listed}{more}")
