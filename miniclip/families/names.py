"""Renames parameters from other libraries' names to ours and back, by tables.

A table has our flat names as keys and theirs as values. There is one for each source, in the family's folder. "{}"
means a block's number. If one array of ours is several of theirs, the value has several names: these arrays are joined
along the first axis, in that order.
"""

import re

import numpy as np


def modules(ours, theirs, modules):
    """A table's lines for weights and biases: `modules` {our name: their names}, with prefixes `ours` and `theirs`."""
    return {
        f"{ours}{module}.{kind}": tuple(f"{theirs}{name}.{kind}" for name in names)
        for module, names in modules.items()
        for kind in ("weight", "bias")
    }


class Transposed(str):
    """Their name of an array whose layout is (in, out), for x @ weight; ours is (out, in)."""


class Single(str):
    """Their name of a number that they keep as an array of one, (1,); ours is ()."""


# Stored, but not parameters: numbers 0, 1, 2 ... by older versions of transformers, masks, counters of training steps.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids", "attn_mask", "num_batches_tracked")


NUMBERS = re.compile(r"\.(\d+)(?=\.)")  # the second dot may belong to the next number


def rename(tensors, table, concatenate=np.concatenate):
    """{their name: array} -> {our name: array}; names that are not in the table stay as they are.

    Renamed arrays are removed from `tensors`. Only arrays that are joined, by `concatenate`, are copied; those that
    cannot be joined keep their names.
    """
    blocks, renamed = _blocks(tensors, table), {}
    for ours, theirs in table.items():
        for block in blocks.get(ours, ()):
            names = [source.format(block) for source in theirs]
            parts = [tensors[name] for name in names if name in tensors]
            if len(parts) == len(names) and _can_be_joined(parts):
                x = parts[0] if len(parts) == 1 else concatenate(parts)
                renamed[ours.format(block)] = from_theirs(x, theirs[0])
                for name in names:
                    del tensors[name]
    return renamed | {name: x for name, x in tensors.items() if not name.endswith(BUFFERS)}


def _blocks(names, table):
    """{our name in the table: {numbers of blocks that have it among these names: None}}; ("" if it has no number)."""
    lines = {source: ours for ours, theirs in table.items() for source in theirs}
    most = max(line.count(".") for line in lines)
    blocks: dict = {}
    for name in names:
        found = [(name, "")]
        if name.count(".") <= most:  # a name of the table has one number at most
            found += [(f"{name[: m.start(1)]}{{}}{name[m.end(1) :]}", m[1]) for m in NUMBERS.finditer(name)]
        for line, block in found:
            if line in lines:
                blocks.setdefault(lines[line], {})[block] = None
    return blocks


def from_theirs(x, name):
    """An array or tensor of theirs, which has this name in a table, in the shape of ours."""
    if isinstance(name, Single) and x.shape == (1,):
        return x.reshape(())
    return x.T if isinstance(name, Transposed) else x


def to_theirs(x, name):
    """The inverse."""
    if isinstance(name, Single):
        return x.reshape(1)
    return x.T if isinstance(name, Transposed) else x


def _can_be_joined(parts):
    return len(parts) == 1 or (len({x.shape for x in parts}) == 1 and parts[0].ndim > 0)


def restore(flat, table):
    """The inverse of `rename`: {our name: array} -> {their name: array}, in the table's order."""
    blocks = sorted({int(number) for name in flat for number in NUMBERS.findall(name)})
    restored: dict = {}
    for ours, theirs in table.items():
        for block in blocks if "{}" in ours else [""]:
            x = flat.get(ours.format(block))
            if x is not None:
                parts = np.split(x, len(theirs)) if len(theirs) > 1 else [to_theirs(x, theirs[0])]
                restored |= {str(name).format(block): part for name, part in zip(theirs, parts)}
    return restored


def without_tower(tensors):
    """The weights of one tower alone, under names without the tower's, as transformers writes them."""
    return {re.sub("^(vision|text)_model[.]", "", name): x for name, x in tensors.items()}
