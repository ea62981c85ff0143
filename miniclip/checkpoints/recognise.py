"""Finds the model in a file of weights: the prefix under which names of one of the tables are found.

A wrapper of a model puts a prefix before every name ("module."), a training checkpoint has the model beside other
things ("state_dict.", "optimizer."), and a larger model has it as a part ("cond_stage_model.transformer.").
"""

import re
from collections import Counter

from miniclip.errors import InputError
from miniclip.families import every, flax_names, named

TOWERS = ("vision_model.", "text_model.")  # transformers 5 leaves this out if a tower is saved alone


def _without_towers(table):
    """{our name: their names without the tower's}."""
    return {
        ours: tuple(name.removeprefix(TOWERS[0]).removeprefix(TOWERS[1]) for name in theirs)
        for ours, theirs in table.items()
    }


SOURCES = {
    "OpenAI and OpenCLIP": [*named("clip").openai.TABLES, *named("multilingual").open_clip.TABLES],
    "transformers": [table for family in every() if family.in_transformers for table in family.huggingface.TABLES],
    "Flax": [{ours: tuple(map(flax_names.name, theirs)) for ours, theirs in named("clip").huggingface.NAMES.items()}],
}
OURS = {(ours,) for tables in SOURCES.values() for table in tables for ours in table}
ALONE = {names for table in SOURCES["transformers"] for names in _without_towers(table).values()}
ADAPTER = "lora_"  # in the names of PEFT's matrices, which are added to weights
AVERAGES = "ema"  # a word in the name of the place where training keeps the moving averages of the weights
MOST = 50  # prefixes that are looked at


def _pattern(name):
    """The parts of a name, without the numbers of blocks."""
    return tuple("{}" if part.isdecimal() else part for part in name.split("."))


THEIRS = {names for tables in SOURCES.values() for table in tables for names in table.values()}
PATTERNS = {_pattern(name) for names in THEIRS | ALONE | OURS for name in names}
LONGEST = max(map(len, PATTERNS))


def model_in(path, names):
    """{name in the file: its name without the model's prefix}, only for the names that have this prefix.

    The prefix is the one under which most names are in a table. If a file has weights and their moving averages, it is
    that of the weights. Raises InputError that names the `path` and shows its names if there is no model, or several.
    """
    if any(ADAPTER in name for name in names):
        raise InputError(
            f"{path}: has an adapter of PEFT, not a model: load the model that it belongs to, and give the adapter's "
            f"directory, as in adapter='{path.parent}'"
        )
    counts = Counter(prefix for name in names for prefix in _prefixes(name))
    if not counts:
        raise InputError(f"{path}: not the weights of a CLIP: {what(names)}")
    # A wrapper has more names than its parts; if they have as many, the parts are a tower alone.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], len(item[0])))[:MOST]
    models = []
    for prefix, count in ranked:
        if 2 * count > ranked[0][1] and not any(_overlap(prefix, other) for other in models):
            models.append(prefix)
    plain = [prefix for prefix in models if AVERAGES not in re.split(r"[._]", prefix)]
    if len(models) > 1 and len(plain) != 1:
        listed = " and ".join(map(repr, plain or models))
        raise InputError(f"{path}: has several models, after {listed}: save the one you need in a file of its own")
    prefix = models[0] if len(models) == 1 else plain[0]
    return {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _prefixes(name):
    """The prefixes without which a name is in a table."""
    parts, pattern = name.split("."), _pattern(name)
    for start in range(max(0, len(parts) - LONGEST), len(parts)):
        if pattern[start:] in PATTERNS:
            yield "".join(f"{part}." for part in parts[:start])


def _overlap(one, other):
    return one.startswith(other) or other.startswith(one)


def what(names):
    """For messages: a file's first names, and names that were looked for."""
    first = ", ".join(list(names)[:5]) or "no tensors"
    looked_for = ", ".join(f"{names[0]} ({source})" for source, names in EXAMPLES.items())
    return f"it has {first}{' ...' if len(names) > 5 else ''}; we looked for names such as {looked_for}"


EXAMPLES = {source: tables[0]["text.embed.table"] for source, tables in SOURCES.items()}
EXAMPLES["miniclip"] = ("text.embed.table",)
