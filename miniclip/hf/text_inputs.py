"""What a tokenizer is given, checked: one text or several, alone or in pairs, and texts that are split into words."""

from typing import Any

from miniclip.errors import InputError


def samples(text: Any, text_pair: Any, is_split_into_words: bool = False) -> tuple[list[tuple], bool]:
    """[(text,), ...] or [(text, text_pair), ...], and whether they are a batch. A text is a str, or a list of words.

    Pairs are two lists of texts, or one list of pairs. Raises InputError for everything else.
    """
    if text is None:
        raise InputError("text is missing: pass a str or a list of str")
    is_one = _is_words if is_split_into_words else _is_text
    kind = "a list of words" if is_split_into_words else "a str"
    if is_one(text) and not (is_split_into_words and not text):
        rows = [(text,) if text_pair is None else (text, text_pair)]
    elif not isinstance(text, (list, tuple)):
        raise InputError(f"text is {_shown(text)}, expected {kind} or a list of {_plural(kind)}")
    elif text_pair is None:
        rows = [tuple(x) if _is_pair(x, is_one) else (x,) for x in text]
    else:
        if not isinstance(text_pair, (list, tuple)) or len(text_pair) != len(text):
            raise InputError(f"text_pair is {_shown(text_pair)}: text_pair has not as many texts as text, {len(text)}")
        rows = list(zip(text, text_pair))
    for i, row in enumerate(rows):
        for name, x in zip(("text", "text_pair"), row):
            if not is_one(x):
                raise InputError(f"{name} is {_shown(x)} in row {i}, expected {kind} or a list of {_plural(kind)}")
    return rows, not is_one(text) or (is_split_into_words and not text)


def _is_text(x):
    return isinstance(x, str)


def _is_words(x):
    return isinstance(x, (list, tuple)) and all(isinstance(word, str) for word in x)


def _is_pair(x, is_one):
    return isinstance(x, (list, tuple)) and len(x) == 2 and all(map(is_one, x)) and not is_one(x)


def _plural(kind):
    return kind.removeprefix("a ").replace("list", "lists")


def _shown(x):
    shown = repr(x)
    return f"{shown[:200]} of type {type(x).__name__}"


def id_list(name: str, ids: Any) -> list[int]:
    """Ids as a list: of an array, a tensor, or a sequence of whole numbers. Raises InputError for everything else."""
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    ids = [ids] if _is_number(ids) else ids
    if not isinstance(ids, (list, tuple)) or not all(map(_is_number, ids)):
        raise InputError(f"{name} is {_shown(ids)}, expected a list of token ids")
    return [int(id) for id in ids]


def names(name: str, given: Any) -> list[str]:
    """A list of str. Raises InputError for everything else."""
    if not _is_words(given):
        raise InputError(f"{name} is {_shown(given)}, expected a list of str")
    return list(given)


def _is_number(x):
    return not isinstance(x, (bool, float, str)) and hasattr(x, "__index__")


def size(name: str, value: Any, least: int = 0) -> int | None:
    """A number of tokens, or None. Raises InputError for everything else."""
    if value is None:
        return None
    if not _is_number(value) or int(value) < least:
        raise InputError(f"{name} is {value!r}, expected a whole number from {least} up")
    return int(value)


def choice(name: str, value: Any, known: dict) -> Any:
    """known[value]. Raises InputError if it is not known."""
    value = getattr(value, "value", value)  # transformers' enumerations have their string as `value`
    try:
        return known[value]
    except (KeyError, TypeError):
        raise InputError(f"{name} is {value!r}, expected one of {', '.join(map(repr, known))}") from None
