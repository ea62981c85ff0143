"""Columns of rows, padded to one length."""

from collections.abc import Mapping
from typing import Any

from miniclip.errors import InputError
from miniclip.hf.outputs import is_tensor
from miniclip.hf.text_inputs import choice, id_list, size

STRATEGIES: dict[Any, str | None] = {
    **{False: None, None: None, "do_not_pad": None, True: "longest"},
    **{name: name for name in ("longest", "max_length")},
}
SIDES = {name: name for name in ("right", "left")}
FILL: dict[str, Any] = {
    "special_tokens_mask": 1,
    "offset_mapping": (0, 0),
}  # all others are filled with 0, and ids with the padding's


def lengthened(length: int, multiple: Any) -> int:
    """The length, or the next multiple of `multiple`."""
    step = size("pad_to_multiple_of", multiple, 1) or 1
    return -(-length // step) * step


def pad(columns: dict[str, list], length: int, side: str, pad_id: int | None) -> dict[str, list]:
    """Every row of {name: rows} filled up to `length`; longer ones stay."""
    choice("padding_side", side, SIDES)
    if pad_id is None and any(len(row) < length for row in columns["input_ids"]):
        raise InputError("there is no padding token: set tokenizer.pad_token = tokenizer.eos_token, for example")
    fill = {**FILL, "input_ids": pad_id}

    def row(name, values):
        more = [fill.get(name, 0)] * (length - len(values))
        return [*more, *values] if side == "left" else [*values, *more]

    try:
        return {name: [row(name, values) for values in rows] for name, rows in columns.items()}
    except (MemoryError, OverflowError):
        raise InputError(f"max_length is {length}: rows of that length do not fit into memory") from None


def columns_of(encoded: Any) -> tuple[dict[str, list[list]], bool, str | None]:
    """({name: rows}, whether it is one row alone, "np" or "pt" if there were arrays or tensors).

    `encoded` is {"input_ids": rows or one row, ...}, or a list of {"input_ids": row, ...}. Raises InputError.
    """
    if isinstance(encoded, (list, tuple)):
        if not all(isinstance(row, Mapping) and row.keys() == encoded[0].keys() for row in encoded):
            raise InputError("the rows to pad are not dicts with the same names, as a tokenizer returns them")
        encoded = {name: [row[name] for row in encoded] for name in (encoded[0] if encoded else {})}
    if not isinstance(encoded, Mapping) or "input_ids" not in encoded:
        names = ", ".join(encoded) if isinstance(encoded, Mapping) else type(encoded).__name__
        raise InputError(f"there are no input_ids to pad, only {names or 'no rows'}")
    ids = encoded["input_ids"]
    if not isinstance(ids, (list, tuple)) and not hasattr(ids, "tolist"):
        raise InputError(f"input_ids is {ids!r}, expected rows of token ids")
    first = ids[0] if hasattr(ids, "__len__") and len(ids) else ids
    kind = "pt" if is_tensor(first) else "np" if hasattr(first, "tolist") else None
    one = not hasattr(first, "__len__") or (hasattr(first, "ndim") and first.ndim == 0)
    columns = {}
    for name, rows in encoded.items():
        rows = [rows] if one else rows
        if not hasattr(rows, "__len__") or len(rows) != (1 if one else len(ids)):
            raise InputError(f"{name} has not as many rows as input_ids")
        columns[name] = [id_list(name, row) if name != "offset_mapping" else list(row) for row in rows]
    for name, rows in columns.items():
        if [*map(len, rows)] != [*map(len, columns["input_ids"])]:
            raise InputError(f"{name} has rows of other lengths than input_ids")
    return columns, one, kind
