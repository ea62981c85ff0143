"""Index: search pictures by texts, by other pictures, and by sums and differences of both."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from miniclip import api, encode, identity
from miniclip.errors import InputError
from miniclip.ops.numpy_ops import l2_normalize
from miniclip.search import cells, exact
from miniclip.search import rows as search_rows


class Hit(NamedTuple):
    name: str  # of the picture: its path; or the text itself
    score: float  # the cosine between its feature and the query


class Index:
    """Features to search in, of pictures or texts.

    index = Index.open("photos")  # a folder that `miniclip embed` has written
    for name, score in index.search("a dog in the snow", k=5): ...
    index.search("a dog", Path("snow.jpg"), minus=["a person"])

    Index(features, names) searches features (n, E) of length one that are in memory, with n names. For texts and
    pictures as queries it also needs `model` and `preprocess`, which `miniclip.load` returns. Raises InputError for
    features of another shape or length, or with NaN.
    """

    def __init__(self, features: Any, names: Iterable[str], *, model: Any = None, preprocess: Any = None):
        self._rows: Any = search_rows.in_memory(features, names)
        self.metadata: dict[str, Any] | None = None
        self.model, self.preprocess, self._cells = model, preprocess, None

    @classmethod
    def open(
        cls, folder: str | os.PathLike, *, model: Any = None, preprocess: Any = None, in_memory: bool = True,
        approximate: bool = False, nprobe: int | None = None,
    ) -> "Index":  # fmt: skip
        """The Index of a folder that `miniclip embed` has written.

        model, preprocess  what `miniclip.load` returns; by default the model that the folder names is loaded when the
                     first text or picture is searched for
        in_memory    read all features now, which takes 4 bytes for each number; else every search reads the folder's
                     parts, one on each core at a time: best if there is only one search
        approximate  look at a part of the features only, see docs/search.md; the first search builds a file in the
                     folder. `nprobe` is how many cells are looked at: more are slower, and miss less

        Raises InputError if the folder is not an index, is empty or damaged, or if its features are of another model.
        """
        index = cls.__new__(cls)
        index._rows = search_rows.open_folder(folder)
        index.metadata = index._rows.parts[0].metadata
        index.model = index.preprocess = index._cells = None
        if model is not None:
            index.use(model, preprocess)
        if approximate:
            index._cells = cells.Cells(folder, index._rows, nprobe)
        elif in_memory:
            index._rows = index._rows.read()
        return index

    def __len__(self):
        return len(self._rows)

    @property
    def kind(self) -> str:
        """What the names are: "pictures", then they are paths, or "texts"."""
        return "pictures" if self.metadata is None else self.metadata["kind"]

    def use(self, model: Any, preprocess: Any, name: str = "this model") -> None:
        """Encode queries with this model, which a user calls `name`. Raises InputError if it is not the index's."""
        if self.metadata is not None and not identity.same(self.metadata["identity"], identity.of(model)):
            raise InputError(
                f"the index has features of the model {self.metadata['model']}, and the weights of {name} are other "
                "ones: their features cannot be compared. Choose the index's model, with its adapter if it had one, "
                "or embed again"
            )
        self.model, self.preprocess = model, preprocess

    def search(self, *wanted: Any, minus: Iterable[Any] = (), k: int = 10) -> list:
        """The k best hits, a list of Hit(name, score), the best one first; equal ones in the order of the index.

        wanted, minus  texts (str), pictures (a path as `pathlib.Path`, a PIL image, a file's bytes) and features (E,),
                       which `query` adds and subtracts; or one array of features (q, E): then the result is a list of
                       hits for each of them
        k              at least 1; there are fewer hits if the index has fewer rows

        Raises InputError for another k or query, and for an array whose E is not that of the index.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise InputError(f"k is {k!r}, expected how many hits there may be: 1 or more")
        several = len(wanted) == 1 and getattr(wanted[0], "ndim", None) == 2
        queries = self._vectors(wanted[0]) if several else self.query(*wanted, minus=minus)[None]  # (q, E)
        if several and [*minus]:
            raise InputError("`minus` is for one query: subtract it from the array yourself")
        k = min(k, len(self))
        if not len(queries):
            return []
        rows, scores = exact.search(self._rows.blocks(), queries, k) if self._cells is None else self._cells(queries, k)
        scores = scores.clip(-1, 1).tolist()  # features in float16 may be a little longer than 1
        found = [[Hit(*hit) for hit in zip(*some)] for some in zip(self._rows.names_of(rows), scores)]
        return found if several else found[0]

    def query(self, *wanted: Any, minus: Iterable[Any] = ()) -> np.ndarray:
        """One feature, (E,) float64 of length one, for texts, pictures and features, see `search`.

        normalize(sum of the features of `wanted` - sum of those of `minus`), all of length one.
        """
        if isinstance(minus, (str, bytes, os.PathLike)):
            minus = [minus]
        if not wanted:
            raise InputError("there is nothing to search for: give a text, a picture or a feature")
        total = sum(map(self._feature, wanted)) - sum(map(self._feature, minus))  # (E,)
        if np.linalg.norm(total) < 1e-6:
            raise InputError("nothing is left of the query: what is added and what is subtracted are the same")
        return l2_normalize(total)

    def _feature(self, thing):
        """The feature (E,) float64 of length one of a text, a picture or a feature."""
        if isinstance(thing, str):
            model = self._loaded()
            if model.config.text is None or model.tokenizer is None:
                raise InputError("the model cannot encode texts, it has no text tower or no vocabulary")
            return self._vectors(model.ops.to_numpy(model.encode_text(model.tokenize([thing]))))[0]
        if isinstance(thing, (os.PathLike, bytes, Image.Image)) or hasattr(thing, "read"):
            model = self._loaded()
            if self.preprocess is None:
                raise InputError("the model has no image tower, which pictures need: search for a text")
            return self._vectors(model.ops.to_numpy(model.encode_image(self.preprocess([thing]))))[0]
        if getattr(thing, "ndim", None) == 1:
            return self._vectors(thing[None])[0]
        raise InputError(
            f"cannot search for {thing!r}: expected a text, a picture (a pathlib.Path, a PIL image, bytes) or a "
            "feature (E,)"
        )

    def _loaded(self):
        if self.model is None and self.metadata is None:
            raise InputError("texts and pictures need a model: Index(features, names, model=..., preprocess=...)")
        if self.model is None:
            name = self.metadata["model"]
            self.use(*api.load(name, exif=self.metadata["preprocess"].get("exif", False)), name)
        return self.model

    def _vectors(self, queries):
        """Queries (q, E) as float64 of length one; InputError if they are not."""
        x = search_rows.numbers(queries).astype(np.float64)
        E = self._rows.embed_dim
        if x.shape[1] != E:
            raise InputError(f"a query has {x.shape[1]} numbers, but the features of the index have {E}: is it of "
                             "another model?")  # fmt: skip
        encode.check_numbers(x, "the values of a query")
        if not np.linalg.norm(x, axis=-1).all():
            raise InputError("a query consists of zeros, which have no direction")
        return l2_normalize(x)
