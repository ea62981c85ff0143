"""Which tokens of one text, or of two, fit into a row; and the rows of those that do not fit."""

from miniclip.errors import InputError


def lengths(first: int, second: int, room: int, strategy: str | None, limit: int) -> tuple[int, int]:
    """How many of the `first` and `second` tokens are kept, so that together they are at most `room`.

    The shorter text is not cut until both have one length (tokenizers, utils/truncation.rs). Raises InputError if
    the text that is to be cut would lose all its tokens; `limit` is the length that the user gave.
    """
    if strategy is None or first + second <= room:
        return first, second
    cut, kept = (first, second) if strategy == "only_first" else (second, first)
    if room < 0 or (room > 0 and strategy != "longest_first" and (kept >= room or cut == 0)):
        raise InputError(f"max_length is {limit}: too short, truncation={strategy!r} would leave nothing of a text")
    if room == 0:
        return 0, 0
    if strategy == "longest_first":
        shorter = min(first, second, room // 2)
        return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
    return (room - kept, kept) if strategy == "only_first" else (kept, room - kept)


def windows(length: int, size: int, stride: int, side: str) -> list[tuple[int, int]]:
    """The (start, end) of the windows of `size` tokens that cover `length` tokens, neighbours sharing `stride` of them.

    The first one is what is kept: the beginning, or the end if the text is cut on the side "left".
    """
    if size >= length:
        return [(0, length)]
    if size == 0:
        return [(0, 0), (0, length)]
    if stride >= size:
        raise InputError(f"stride is {stride}, expected less than the {size} tokens of a text that fit into a row")
    found = []
    for done in range(0, length, size - stride):
        found.append((done, min(done + size, length)))
        if done + size >= length:
            break
    return found if side == "right" else [(length - end, length - start) for start, end in found]


def combinations(windows: list[list[tuple[int, int]]]) -> list[tuple[tuple[int, int], ...]]:
    """The rows of one text's windows, or of two: what is kept, then all others, in tokenizers' order (encoding.rs)."""
    if len(windows) == 1:
        return [(window,) for window in windows[0]]
    first, second = windows
    return [(first[0], second[0]), *((a, b) for a in first[1:] for b in second), *((first[0], b) for b in second[1:])]


def remove(first: list, second: list | None, count: int, strategy: str, stride: int, side: str):
    """Two lists of ids without `count` of them, and those that overflow: transformers' `truncate_sequences`.

    "longest_first" takes from the longer list, and if both are equally long from the second; nothing overflows then.
    """

    def cut(ids, count):
        return ids[count:] if side == "left" else ids[: max(len(ids) - count, 0)]

    if count <= 0:
        return first, second, []
    if strategy == "longest_first" and second is not None:
        ahead = min(abs(len(first) - len(second)), count)
        half = (count - ahead) // 2
        if len(first) > len(second):
            return cut(first, ahead + half), cut(second, count - ahead - half), []
        return cut(first, half), cut(second, count - half), []
    longer = second if strategy == "only_second" else first
    if longer is None:
        return first, second, []
    overflow = longer[: stride + count] if side == "left" else longer[-min(len(longer), stride + count) :]
    return (first, cut(longer, count), overflow) if longer is second else (cut(longer, count), second, overflow)
