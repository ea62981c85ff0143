"""Pairs of a Hugging Face `datasets.Dataset` with a column of pictures and one of texts; needs `datasets` only then.

Pictures are read as they were stored, row by row: `datasets` itself would decode them, and turn them by their EXIF
orientation, which CLIP's preprocessing does not.
"""

import threading

from miniclip.errors import InputError
from miniclip.runtime.installation import install
from miniclip.train.data.pairs import CAPTIONS, choose_columns, pair_up, skip, texts_of

ROWS = 1000  # captions read at a time


def is_dataset(source):
    """Whether an object comes from the package `datasets`."""
    return type(source).__module__.partition(".")[0] == "datasets"


def load_saved(folder):
    """The dataset in a folder that `save_to_disk` has written."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"{folder}: a saved dataset needs {error.name}: {install('data')}") from error
    try:
        return datasets.load_from_disk(folder)
    except Exception as error:  # pyarrow and datasets raise many kinds
        raise InputError(f"{folder}: cannot be read as a saved dataset: {error}") from error


def read(dataset, columns=None, source="the dataset"):
    """Pairs of a map-style dataset: its only column of pictures, and the column of texts with a usual name.

    A column of lists of texts gives several captions. Raises InputError for a dataset with splits, for a streamed one,
    and if the columns cannot be guessed.
    """
    import datasets

    if isinstance(dataset, dict):
        raise InputError(f"{source}: has the splits {', '.join(map(str, dataset))}: choose one, dataset['train']")
    if not isinstance(dataset, datasets.Dataset):
        raise InputError(
            f"{source}: is a {type(dataset).__name__}, expected a datasets.Dataset: a streamed dataset has no length "
            f"and no order by number; load it without streaming=True"
        )
    if dataset.format["type"] == "custom":
        raise InputError(
            f"{source}: has a transform, but miniclip prepares the pictures: pass dataset.with_format(None)"
        )
    features = dataset.features
    pictures = [name for name in features if isinstance(features[name], datasets.Image)]
    texts = [name for name in features if _is_text(features[name])]
    usual = [name for name in features if name.lower() in CAPTIONS] or texts
    picture, caption = choose_columns(source, [*features], columns, (pictures, usual))
    if picture not in pictures:
        raise InputError(
            f"{source}: the column {picture!r} is of {features[picture]}, expected pictures: "
            f"dataset.cast_column({picture!r}, datasets.Image())"
        )
    if caption not in texts:  # datasets reads a table's captions 1, 2, 3 as numbers
        raise InputError(
            f"{source}: the column {caption!r} is of {features[caption]}, expected texts: "
            f"dataset.cast_column({caption!r}, datasets.Value('string'))"
        )
    stored = dataset.with_format(None).select_columns([picture]).cast_column(picture, datasets.Image(decode=False))
    skipped, lock = {}, threading.Lock()

    def rows():
        number = 0
        for part in dataset.with_format(None).select_columns([caption]).iter(ROWS):
            for value in part[caption]:
                name = f"row {number}"
                try:
                    yield name, texts_of(value), number
                except InputError as error:
                    skip(skipped, name, str(error))
                number += 1

    def read_row(number):
        with lock:  # nothing promises that threads may read at the same time
            value = stored[number][picture]
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise InputError("the row has no picture")
        return value["path"] if value["bytes"] is None else value["bytes"]

    return pair_up(source, rows(), read_row, skipped)


def _is_text(feature):
    """Whether a feature is a text or a list of texts."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
    return getattr(inner, "dtype", None) in ("string", "large_string")
