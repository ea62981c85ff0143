"""`miniclip.search.Index`: queries, their arithmetic, the three ways to search, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import ROOT
from PIL import Image
from search_indexes import OTHER, quiet, random_features, unit, write  # noqa: F401

import miniclip
from miniclip import InputError
from miniclip.search import Hit, Index, rows
from miniclip.train import shapes

EXAMPLE = ROOT / "weights" / "example.png"
PAIRS = [("red", "heart"), ("blue", "heart"), ("red", "star"), ("blue", "star"), ("green", "circle")]
WAYS = [{}, {"in_memory": False}, {"approximate": True}]


@pytest.fixture(scope="module")
def loaded():
    return miniclip.load("shapes", "numpy")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten drawn pictures, two of each pair."""
    folder, rng, paths = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3), []
    for i, pair in enumerate(PAIRS * 2):
        paths.append(folder / f"{'-'.join(pair)}-{i}.png")
        shapes.draw(shapes.one_object(rng, pair, smallest=0.35), rng).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def features(loaded, pictures):
    model, preprocess = loaded
    return model.encode_image(preprocess(pictures), normalize=True)


@pytest.fixture
def folder(tmp_path, loaded, pictures, features):
    return write(tmp_path / "index", features, [str(path) for path in pictures], model=loaded[0])


def kinds(hits):
    return [Path(name).name.rpartition("-")[0] for name, _ in hits]


# ------------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize("way", WAYS)
def test_a_text_finds_its_pictures(folder, way):
    hits = Index.open(folder, **way).search("a red heart", k=2)
    assert kinds(hits) == ["red-heart", "red-heart"]
    assert isinstance(hits[0], Hit) and 1 > hits[0].score > hits[1].score > 0.3


@pytest.mark.parametrize("way", WAYS)
def test_an_array_has_a_list_of_hits_for_each_row(folder, features, pictures, way):
    found = Index.open(folder, **way).search(features, k=3)
    assert [hits[0].name for hits in found] == [str(path) for path in pictures]
    np.testing.assert_allclose([hits[0].score for hits in found], 1, atol=1e-3)  # float16
    (one,) = Index.open(folder, **way).search(features[4:5], k=3)
    alone = Index.open(folder, **way).search(features[4], k=3)
    assert [hit.name for hit in one] == [hit.name for hit in alone] == [hit.name for hit in found[4]]


@pytest.mark.parametrize("way", WAYS[1:])
def test_many_queries_read_each_parts_names_once(folder, features, pictures, way, monkeypatch):
    read, rows_of = [], rows.index.rows_of

    def counted(part, features=True):
        read.extend([] if features else [part.path.name])
        return rows_of(part, features)

    monkeypatch.setattr(rows.index, "rows_of", counted)
    Index.open(folder, **way).search(features, k=9)
    assert sorted(read) == [f"part-{number:06d}.parquet" for number in range(3)]
    read.clear()
    (hits,) = Index.open(folder, **way).search(features[9:], k=1)
    assert hits[0].name == str(pictures[9]) and read == ["part-000002.parquet"]  # which has the last two of ten rows


def test_scores_are_those_of_the_float16_features(folder, features):
    index, query = Index.open(folder), unit(features[0])
    expected = features.astype(np.float16).astype(np.float64) @ query
    hits = index.search(query, k=10)
    assert expected.max() > 1 and hits[0].score == 1  # a cosine is not larger, although the rounded features are longer
    expected = sorted(expected.clip(-1, 1), reverse=True)
    np.testing.assert_allclose([hit.score for hit in hits], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose([hit.score for hit in hits], sorted(features @ query, reverse=True), rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", [Path, Image.open, lambda path: path.read_bytes(), lambda path: path.open("rb")])
def test_a_picture_finds_pictures_like_it(folder, loaded, form):
    index = Index.open(folder, model=loaded[0], preprocess=loaded[1])
    picture = form(EXAMPLE)
    assert kinds(index.search(picture, k=2)) == ["red-heart", "red-heart"]
    if hasattr(picture, "close"):
        picture.close()


def test_queries_are_added_and_subtracted(folder, loaded):
    model, preprocess = loaded
    index = Index.open(folder, model=model, preprocess=preprocess)
    texts = unit(model.encode_text(model.tokenize(["a heart", "red"])))
    picture = unit(model.encode_image(preprocess([EXAMPLE])))[0]
    expected = unit(picture + texts[0] - texts[1])
    np.testing.assert_allclose(index.query(EXAMPLE, "a heart", minus=["red"]), expected, atol=1e-6)
    np.testing.assert_allclose(index.query(3 * picture, "a heart", minus="red"), expected, atol=1e-6)
    assert kinds(index.search(EXAMPLE, "blue", minus=["red"], k=2)) == ["blue-heart", "blue-heart"]


def test_features_in_memory_are_searched_without_a_model(features, pictures):
    index = Index(features, pictures)
    assert len(index) == 10 and index.kind == "pictures" and index.search(features[3], k=1)[0].name == pictures[3]
    same = Index(torch.from_numpy(features).requires_grad_(), pictures).search(torch.from_numpy(features[3]), k=4)
    assert same == index.search(features[3], k=4)
    with pytest.raises(InputError, match=r"texts and pictures need a model: Index\(features, names, model="):
        index.search("a red heart")


def test_features_in_memory_are_searched_with_a_model(features, pictures, loaded):
    index = Index(features, pictures, model=loaded[0], preprocess=loaded[1])
    assert kinds(index.search("a blue star", k=2)) == ["blue-star", "blue-star"]


def test_texts_are_found_too(tmp_path, loaded):
    model, _ = loaded
    texts = [shapes.label(*pair) for pair in PAIRS]
    folder = write(
        tmp_path / "texts", model.encode_text(model.tokenize(texts), normalize=True), texts, kind="texts", model=model
    )
    index = Index.open(folder)
    assert index.kind == "texts" and index.search(EXAMPLE, k=1)[0].name == "a red heart"


def test_more_hits_than_rows(folder):
    assert len(Index.open(folder).search("a star", k=1000)) == 10
    assert len({hit.name for hit in Index.open(folder, approximate=True).search("a star", k=1000)}) == 10


def test_the_model_that_the_index_names_is_loaded_once_and_prepares_as_it_says(tmp_path, loaded, features, monkeypatch):
    calls = []
    monkeypatch.setattr(miniclip.api, "load", lambda *given, **how: calls.append((given, how)) or loaded)
    names = [f"{i}" for i in range(10)]
    index = Index.open(write(tmp_path / "index", features, names, model=loaded[0], name="mine", exif=True))
    index.search(features[0])
    assert calls == []
    index.search("a star"), index.search(EXAMPLE)
    assert calls == [(("mine",), {"exif": True})]


# ----------------------------------------------------------------------------------------- what is refused


def test_another_model_is_refused_with_both_names(tmp_path, loaded, features):
    folder = write(tmp_path / "other", features, [f"{i}" for i in range(10)], name="ViT-Q/7")
    for open_it in (
        lambda: Index.open(folder, model=loaded[0], preprocess=loaded[1]),
        lambda: Index.open(folder).use(*loaded, "shapes"),
    ):
        with pytest.raises(
            InputError, match=r"features of the model ViT-Q/7, and the weights of \S+( model)? are other"
        ):
            open_it()


@pytest.mark.parametrize("k", [0, -1, 2.5, None, True, "3"])
def test_k_is_at_least_one(features, pictures, k):
    with pytest.raises(InputError, match=r"k is .*, expected how many hits there may be: 1 or more"):
        Index(features, pictures).search(features[0], k=k)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ((), "nothing to search for"),
        ((3,), "cannot search for 3: expected a text, a picture"),
        ((np.ones(7),), "a query has 7 numbers, but the features of the index have 128: is it of another model"),
        ((np.ones((2, 7)),), "a query has 7 numbers"),
        ((np.full(128, np.nan),), "the values of a query are not numbers"),
        ((np.zeros(128),), "consists of zeros"),
        ((np.array(["a"] * 128),), "features are of type ndarray"),
        ((Path("none.png"),), "none.png: no such file"),
        (("a " * 100,), "text 0 has"),
    ],
)
def test_queries_that_are_none(folder, query, message):
    with pytest.raises(InputError, match=message):
        Index.open(folder).search(*query)


def test_a_query_of_which_nothing_is_left(folder):
    with pytest.raises(InputError, match="nothing is left of the query"):
        Index.open(folder).search("a star", minus=["a star"])


def test_minus_is_for_one_query(folder, features):
    with pytest.raises(InputError, match="`minus` is for one query"):
        Index.open(folder).search(features, minus=["a star"])


def test_no_queries_have_no_hits(folder):
    assert Index.open(folder).search(np.empty((0, 128))) == []


def damaged(value, row=2):
    x = random_features(5, 8).astype(np.float32)
    x[row, 3] = value
    return x


@pytest.mark.parametrize(
    ("features", "names", "message"),
    [
        (random_features(3, 8), "ab", "there are 2 names for 3 features"),
        (random_features(3, 8)[0], "abc", r"the shape \(8,\), expected \(n, E\)"),
        (np.empty((0, 8)), "", r"the shape \(0, 8\)"),
        (damaged(np.nan), "abcde", "row 2 has values that are not numbers"),
        (damaged(np.inf), "abcde", "row 2 has values that are not numbers"),
        (damaged(3), "abcde", "row 2 has the length 3.* encode_image.images, normalize=True"),
        ("features", "abcde", "of type str"),
    ],
)
def test_features_that_are_none(features, names, message):
    with pytest.raises(InputError, match=message):
        Index(features, names)


@pytest.mark.parametrize("way", WAYS)
def test_numbers_in_a_folder_that_are_none(tmp_path, way):
    folder = write(tmp_path / "index", damaged(np.nan, row=4), "abcde")
    with pytest.raises(InputError, match=r"part-000001.parquet: row 0 has values that are not numbers"):
        Index.open(folder, **way).search(np.ones(8))


def test_folders_that_are_none(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, message in [("photos", "photos: is not an index, or is empty"), ("none", "none: ")]:
        with pytest.raises(InputError, match=message):
            Index.open(tmp_path / name)
    folder = write(tmp_path / "index", random_features(6, 8), "abcdef")
    whole = (folder / "part-000001.parquet").read_bytes()
    (folder / "part-000001.parquet").write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"part-000001\.parquet"):
        Index.open(folder)


def test_the_other_identity_is_of_no_model(loaded):
    assert not miniclip.identity.same(OTHER, miniclip.identity.of(loaded[0]))


def test_an_open_file_is_a_picture(folder, loaded):
    file = io.BytesIO(EXAMPLE.read_bytes())
    assert kinds(Index.open(folder, model=loaded[0], preprocess=loaded[1]).search(file, k=1)) == ["red-heart"]
