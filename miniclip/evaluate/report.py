"""The numbers of an evaluation as text for a terminal: every function returns lines that are joined."""

import numpy as np

NUMBERS = {"acc1": "top-1", "acc5": "top-5", "mean_per_class_recall": "per class", "ece": "ECE"}
DIRECTIONS = {"text": "texts of a picture", "image": "pictures of a text"}


def classification(results):
    """A line for each classifier: {its name: its `Answers.summary()`}.

    "per class" is the mean over the classes of their accuracy, ECE the expected calibration error.
    """
    shown = [name for name in NUMBERS if any(name in result for result in results.values())]
    rows = [
        [name, *(_percent(result[number]) if number in result else "" for number in shown)]
        for name, result in results.items()
    ]
    return columns([["", *(NUMBERS[name] for name in shown)], *rows])


def retrieval(numbers):
    """A line for each direction, of `retrieval.summary`: recall, mean reciprocal rank, median rank."""
    rows = [["", "recall@1", "recall@5", "recall@10", "MRR", "median rank"]]
    for direction, name in DIRECTIONS.items():
        recalls = [_percent(numbers[f"{direction}_retrieval_recall@{k}"]) for k in (1, 5, 10)]
        mrr, median = (numbers[f"{direction}_retrieval_{what}"] for what in ("mrr", "median_rank"))
        rows.append([name, *recalls, f"{mrr:.3f}", f"{median:,g}"])
    return columns(rows)


def per_class(rows):
    """A line for each class, of `Answers.per_class()`: those that are found least come first."""
    rows = sorted(rows, key=lambda row: 2 if row["recall"] is None else row["recall"])
    shown = [
        [row["class"], f"{row['pictures']:,}", _percent(row["recall"]), _percent(row["precision"]),
         row["mistaken_for"] or ""]
        for row in rows
    ]  # fmt: skip
    lines = columns([["class", "pictures", "found", "precision", "mistaken most for"], *shown], text={0, 4})
    return lines


def few_shot(few, results, pictures):
    """Accuracy by the number of pictures of each class: of `probe.few_shot`, mean ± standard deviation in percent.

    results  {name of a classifier: its summary} when it learns from all `pictures`
    """
    rows = [["pictures of each class", *map(str, few), f"all {pictures:,}"]]
    for name, result in results.items():
        cells = [
            f"{np.mean(row[name]):.1%} ± {100 * np.std(row[name]):.1f}" if name in row else "" for row in few.values()
        ]
        rows.append([name, *cells, _percent(result["acc1"])])
    return columns(rows)


def columns(rows, text=frozenset({0})):
    """Rows of texts as lines, each column as wide as its widest text; those in `text` begin on the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    padded = (
        [cell.ljust(width) if i in text else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        for row in rows
    )
    return "\n".join("   ".join(row).rstrip() for row in padded)


def _percent(share):
    return "-" if share is None else f"{share:.1%}"
