"""Which parameters a training changes, and how fast, decided by their flat names alone (`miniclip info` prints them).

A pattern names parameters: a part of the model ("visual", "text.blocks.0"), a shell's pattern of names ("*.mlp.fc",
"visual.blocks.[0-3]"), or a word in `WORDS`.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from miniclip.errors import InputError

WORDS = {"embeddings": "*embed*", "projections": "*.projection", "norms": "*.ln_*", "biases": "*.bias"}
UNUSED = "text.pooler."  # ALIGN's files have it, and no feature depends on it: it has no gradient
BLOCK = re.compile(r"\.(?:blocks\.(\d+)|stages\.(\d+)\.(\d+))\.")  # a ResNet's blocks are numbered in stages


def select(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that at least one pattern names, in their order. Raises InputError for a pattern that names none."""
    names, patterns = list(names), list(patterns)
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            parts = sorted({".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)})
            near = difflib.get_close_matches(pattern, [*WORDS, *parts], 3) or [*WORDS, *parts[:3]]
            raise InputError(f"no parameter is named by {pattern!r}: try {', '.join(near)}; miniclip info lists them")
    return [name for name in names if any(_fits(name, pattern) for pattern in patterns)]


def _fits(name, pattern):
    pattern = WORDS.get(pattern, pattern)
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def layers(names: Iterable[str], tower: str) -> list[list[str]]:
    """A tower's names in groups, from the pixels or tokens upwards: embeddings, each block, and the projection.

    What precedes the blocks is with the embeddings, what follows them with the last block (`VisionTransformer.lock` and
    `lock_text_tower` in open_clip/transformer.py). Raises InputError if the model has no such tower.
    """
    mine = select(names, [tower])
    blocks = sorted({place for name in mine if (place := _place(name))})
    last = blocks[-1] if blocks else ()
    groups: dict[tuple, list[str]] = {}
    for name in mine:
        part = name.split(".")[1]
        if part in ("projection", "head", "attention_pool"):
            where = (1,)
        elif part == "stem" or part == "ln_pre" or "embed" in part:
            where = (-1,)
        else:
            where = (0, *(_place(name) or last))
        groups.setdefault(where, []).append(name)
    return [groups[where] for where in sorted(groups)]


def _place(name):
    """The numbers of a name's block, or None."""
    found = BLOCK.search(name)
    return found and tuple(int(number) for number in found.groups() if number)


def trained(
    names: Iterable[str], freeze: Iterable[str] = (), unlocked: Mapping[str, int] | None = None
) -> dict[str, bool]:
    """{name: whether it is trained}, in the order of `names`.

    freeze    patterns: what they name is frozen. ["visual"] alone is LiT (Zero-Shot Transfer with Locked-image text
              Tuning)
    unlocked  {tower: n}: this tower is frozen except its n upper `layers`, as OpenCLIP's --lock-image-unlocked-groups

    Raises InputError for a pattern or a tower that is not there, for more layers than there are, and if nothing is
    left to train.
    """
    names = list(names)
    frozen = set(select(names, freeze))
    for tower, n in (unlocked or {}).items():
        groups = layers(names, tower)
        if not 0 <= n <= len(groups):
            raise InputError(f"{n} layers of {tower} are to be trained, expected 0 to {len(groups)}: it has no more")
        frozen |= {name for group in groups[: len(groups) - n] for name in group}
    if frozen.issuperset(names):
        raise InputError("every parameter is frozen: nothing is left to train")
    return {name: name not in frozen for name in names}


def learning_rates(names: Iterable[str], decay: float) -> dict[str, float]:
    """{name: the factor of its learning rate}: decay^(how far its layer is from the top), 1 for the scale.

    Early layers are general and should change little (Universal Language Model Fine-tuning, sec. 3.2). The `layers` of
    each tower count from its own top: its projection has the factor 1, its embeddings have the smallest one. (As in
    BEiT's fine-tuning, except that the last layer norm counts with the last block.) Raises InputError unless
    0 < decay <= 1.
    """
    if not 0 < decay <= 1:
        raise InputError(f"the decay of learning rates by layer is {decay}, expected more than 0 and at most 1")
    names = list(names)
    factors = dict.fromkeys(names, 1.0)
    for tower in {name.partition(".")[0]: None for name in names if "." in name}:
        for depth, group in enumerate(reversed(layers(names, tower))):
            factors |= dict.fromkeys(group, decay**depth)
    return factors
