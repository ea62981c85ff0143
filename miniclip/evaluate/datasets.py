"""Pictures to measure a model on: with a label each, for classification, or with captions, for retrieval.

Builds on what reads training data. Labels are read as captions are; here they become the numbers of classes.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miniclip import encode
from miniclip.errors import InputError
from miniclip.runtime import listing
from miniclip.train import data
from miniclip.train.data import captions, webdataset
from miniclip.train.data.pairs import CAPTIONS, PICTURES, Pairs, choose_columns, logger, skip

TASKS = ("classification", "retrieval")
LABELS = ("label", "labels", "class", "classname", "class_name", "category")  # names of a table's column, in any case


@dataclass(frozen=True)
class Labelled:
    """n pictures, each of one of N classes.

    pairs      the pictures; their captions are the labels, as they are in the data
    classes    the texts that name the classes, N
    truth      the class of each picture, (n,) integers from 0 to N - 1
    templates  the texts with {} for the label that the data bring, or ["{}"]
    """

    pairs: Pairs
    classes: list[str]
    truth: np.ndarray
    templates: list[str]


# ------------------------------------------------------------------------ pictures with labels


def labelled(source, classes=None, columns=None, by_order=True):
    """`Labelled` pictures.

    source   a folder with a folder of pictures for each class, named for it, with "_" read as " "; a table with a path
             and a label in each row; a folder as CLIP_benchmark writes it, or tar shards with .cls files; or a list of
             (picture, label)
    classes  texts that name the classes. Labels are among them; or, if `by_order`, labels are their numbers from 0 on,
             or they name the folders in sorted order, which is logged. None: the labels are the texts
    columns  (pictures, labels): a table's columns, or the endings of a shard's files, if they are not the usual ones

    Raises InputError for fewer than two classes, for a picture with two labels, and for a label without a class.
    """
    templates, numbers = ["{}"], False
    if benchmark := _Benchmark.at(source):
        pairs = webdataset.read(benchmark.shards, columns or (None, "cls"))
        classes = classes or benchmark.lines("classnames.txt")
        templates, numbers = benchmark.lines("zeroshot_classification_templates.txt") or templates, True
    elif _is_folder(source) and columns is None:
        pairs = replace(data.read(in_folders(source)), source=str(source))
    elif _is_table(source):
        pairs = data.read(source, columns or _columns(source))
    elif isinstance(source, (str, os.PathLike)):
        pairs, numbers = data.read(source, columns or (None, "cls")), columns is None
    else:
        pairs = data.read(source, columns)
    if numbers and not classes:
        raise InputError(f"{pairs.source}: has numbers for labels, and no classnames.txt: name the classes (--classes)")
    labels = [_only(name, texts) for name, texts in zip(pairs.names, pairs.captions)]  # n
    classes = [*(classes or sorted(set(labels)))]
    if len(classes) < 2:
        raise InputError(f"{pairs.source}: expected pictures of at least two classes, but all are {classes[0]!r}")
    truth = _truth(pairs.source, labels, classes, numbers, by_order, _is_folder(source))
    return Labelled(pairs, classes, truth, templates)


def in_folders(folder):
    """[(path of a picture, label)] of a folder with a folder of pictures for each class; hidden files are left out."""
    found = [
        (path, inside[0].replace("_", " "))
        for path in listing.files(folder)
        for inside in [os.path.relpath(path, folder).split(os.sep)]
        if len(inside) > 1 and listing.is_picture(path)
    ]
    if not found:
        raise InputError(
            f"{folder}: expected pictures of at least two classes, in a folder for each of them; or pictures with "
            f"captions, in a .txt beside each or in a table"
        )
    return found


def _only(name, labels):
    if len(labels) > 1:
        raise InputError(f"{name}: has the labels {', '.join(labels)}, expected one")
    return labels[0]


def _truth(source, labels, classes, numbers, by_order, folders):
    """The class of each label, (n,). `numbers`: labels are numbers, whatever the classes are called."""
    known = {name: i for i, name in enumerate(classes)}
    names = sorted(set(labels))
    if by_order and not numbers and not known.keys() & names:
        numbers = all(name.isdecimal() for name in names)
        if folders and not numbers and len(names) == len(classes):  # as torchvision's ImageFolder counts
            known = {name: i for i, name in enumerate(dict.fromkeys(labels))}
            logger.info("the classes name the folders in sorted order: %s is %r, and so on", labels[0], classes[0])
    if numbers:
        known = {name: int(name) for name in names if name.isdecimal() and int(name) < len(classes)}
    elif len(known) < len(classes):
        twice = next(name for i, name in enumerate(classes) if known[name] != i)
        raise InputError(f"the class {twice!r} is there twice: give each class its own name")
    if odd := [name for name in names if name not in known]:
        raise InputError(
            f"{source}: {len(odd)} of its labels are none of the {len(classes)} classes, such as {odd[0]!r}: expected "
            f"{'numbers from 0 on' if numbers else f'{classes[0]!r}, {classes[1]!r} and so on'}"
        )
    return np.array([known[label] for label in labels])


# ------------------------------------------------------------------------ pictures with captions


def captioned(source, columns=None):
    """The `Pairs` of pictures with captions: all that `train.data.read` takes, and CLIP_benchmark's folders.

    In a folder of CLIP_benchmark each line of a .txt is a caption, as there.
    """
    if not (benchmark := _Benchmark.at(source)):
        return data.read(source, columns)
    pairs = replace(webdataset.read(benchmark.shards, columns), source=str(source))
    lines = [[line.strip() for text in texts for line in text.splitlines()] for texts in pairs.captions]
    return replace(pairs, captions=[tuple(dict.fromkeys(filter(None, some))) for some in lines])


def task_of(source, columns=None):
    """What a path's data are for: "classification" if its pictures have labels, "retrieval" if they have captions.

    Raises InputError if it cannot be seen from the names of files and columns.
    """
    if benchmark := _Benchmark.at(source):
        return benchmark.task()
    if _is_folder(source):
        files = [*listing.files(source, lambda error: None)]
        stems = {os.path.splitext(path)[0] for path in files if path.lower().endswith(".txt")}
        tables = any(os.path.basename(path) in captions.IN_FOLDER for path in files)
        saved = any((Path(source) / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        texts = any(os.path.splitext(path)[0] in stems for path in files if listing.is_picture(path))
        return "retrieval" if tables or saved or texts else "classification"
    if _is_table(source):
        seen = {name.strip().lower() for name in columns or captions.columns_of(source)}
        labels, texts = (bool(seen & {*names}) for names in (LABELS, CAPTIONS))
        if labels != texts:
            return "classification" if labels else "retrieval"
        raise InputError(
            f"{source}: has {'both' if labels else 'neither'} a column of labels {'and' if labels else 'nor'} one of "
            f"captions: pass --task classification or --task retrieval"
        )
    return "retrieval"


def features(model, preprocess, pairs, progress=iter):
    """Yield (numbers of b pictures (b,), their features (b, E) float32, not normalised), in the order of `pairs`.

    A picture that cannot be read is logged, is in `pairs.skipped`, and is left out. `progress` is called with the
    numbers of all pictures and returns an iterator over them, which may show how far it is.
    """

    def read():
        for i in progress(range(len(pairs))):
            try:
                yield i, pairs.picture(i)
            except Exception as error:  # a shard that is gone, a row without a picture
                broken(i, error)

    def broken(i, error):
        name = pairs.names[i]
        skip(pairs.skipped, name, str(error).removeprefix(f"{name}: ").removeprefix("the picture: "))

    for numbers, x in encode.pictures(model, preprocess, read(), broken=broken):
        yield np.array(numbers), x


# ------------------------------------------------------------------------ kinds of sources


def templates_in(path):
    """The templates in a file, one on each line, with {} for the label; CLIP_benchmark's {c} means the same."""
    return [line.replace("{c}", "{}") for line in listing.texts(path)]


@dataclass(frozen=True)
class _Benchmark:
    """A folder as CLIP_benchmark's `clip_benchmark_export_wds` writes it.

        classnames.txt  zeroshot_classification_templates.txt  dataset_type.txt  test/nshards.txt  test/0.tar ...

    It is given, or its folder `test` or another one of shards.
    """

    shards: list[str]
    folders: list[Path]  # where its texts may be

    @classmethod
    def at(cls, source):
        if not _is_folder(source):
            return None
        place = Path(source)
        for folder, others in ((place / "test", [place]), (place, [place, place.parent])):
            if (count := folder / "nshards.txt").is_file():
                number = listing.texts(count)[0]
                if not number.isdecimal() or int(number) < 1:
                    raise InputError(f"{count}: says {number!r}, expected the number of shards")
                return cls([str(folder / f"{i}.tar") for i in range(int(number))], others)
        return None

    def lines(self, name):
        """The lines of one of its texts; none if it is not there."""
        found = [path for folder in self.folders if (path := folder / name).is_file()]
        return templates_in(found[0]) if found else []

    def task(self):
        kind = (self.lines("dataset_type.txt") or ["classification"])[0].lower()
        if kind not in TASKS:
            raise InputError(f"{self.shards[0]}: its dataset_type.txt says {kind}, expected {' or '.join(TASKS)}")
        return kind


def _is_folder(source):
    return isinstance(source, (str, os.PathLike)) and Path(source).is_dir()


def _is_table(source):
    return isinstance(source, (str, os.PathLike)) and str(source).lower().endswith(captions.TABLES)


def _columns(path):
    """(column of pictures, column of labels) of a table; one of captions may have labels, if there is no other."""
    seen = captions.columns_of(path)
    paths, labels, texts = ([x for x in seen if x.strip().lower() in usual] for usual in (PICTURES, LABELS, CAPTIONS))
    return choose_columns(path, seen, None, (paths, labels or texts)) if seen else None
