"""`embed.pictures` and `embed.texts`: rows are those of the model, in order; what is there already is left out."""

import json
import os
import shutil

import numpy as np
import pytest
from arithmetic import close_in_float16

import miniclip
from miniclip import InputError, embed
from miniclip.cli import main
from miniclip.ops.numpy_ops import l2_normalize
from miniclip.runtime import listing

pytest_plugins = ["embedded_photos"]


def test_rows_are_the_features_of_the_model(tmp_path, loaded, photos, readable):
    model, preprocess = loaded
    broken = []
    done = embed.pictures(
        tmp_path / "i", model, preprocess, listing.pictures([photos]), name="shapes", broken=lambda *x: broken.append(x)
    )
    metadata, names, features = embed.read(tmp_path / "i")
    assert done == (198, 198, 2) and names == readable
    assert close_in_float16(features, l2_normalize(model.encode_image(preprocess(readable))))
    assert [os.path.relpath(name, photos) for name, _ in broken] == ["1/4.png", "2/50.png"]
    listed = [*map(json.loads, (tmp_path / "i" / "_failed.jsonl").read_text().splitlines())]
    assert [(row["path"], row["error"]) for row in listed] == [(name, str(error)) for name, error in broken]
    assert metadata["preprocess"] == {"family": "clip", "image_size": 48, "exif": False}
    assert (metadata["kind"], metadata["model"], metadata["embed_dim"]) == (
        "pictures",
        "shapes",
        model.config.embed_dim,
    )


def test_a_second_call_adds_only_what_is_new(tmp_path, loaded, readable):
    first = [readable[3], readable[0], readable[5]]
    embed.pictures(tmp_path / "i", *loaded, first, name="shapes")
    before = embed.read(tmp_path / "i")
    assert embed.pictures(tmp_path / "i", *loaded, first, name="shapes") == (3, 0, 0)
    seen = []
    done = embed.pictures(tmp_path / "i", *loaded, readable[:8], name="shapes", watch=lambda *x: seen.append(x))
    assert done == (8, 5, 0) and seen == [(0, 5), (5, 5)]
    after = embed.read(tmp_path / "i")
    assert after.names == [*first, *(readable[i] for i in (1, 2, 4, 6, 7))]
    assert np.array_equal(after.features[:3], before.features)


def test_progress_counts_what_is_finished(tmp_path, loaded, readable):
    """Not what an encoder takes from the list: a cluster takes all of it at once."""
    seen = []

    def watch(finished, total):
        seen.append((finished, total, len(calls)))

    model, preprocess = loaded
    calls, encode = [], model.encode_image
    paths = [*readable[:4], str(tmp_path / "none.png"), *readable[4:8]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "encode_image", lambda x: calls.append(x) or encode(x))
        embed.pictures(tmp_path / "i", model, preprocess, paths, name="shapes", batch=4, watch=watch)
    assert seen == [(0, 9, 0), (4, 9, 1), (5, 9, 1), (8, 9, 2), (9, 9, 3)]
    calls.clear()
    seen.clear()
    odd = str(tmp_path / "\udcff.png")  # not Unicode: it is finished, too
    embed.pictures(tmp_path / "j", model, preprocess, [odd, *paths[:2]], name="shapes", watch=watch)
    embed.pictures(tmp_path / "j", model, preprocess, iter(paths), name="shapes", watch=watch)
    assert seen == [(0, 3, 0), (1, 3, 0), (3, 3, 0), (0, None, 0), (1, None, 0), (7, None, 0)]


def test_paths_are_absolute_so_that_a_search_from_anywhere_finds_them(tmp_path, loaded, photos, readable, monkeypatch):
    monkeypatch.chdir(photos)
    embed.pictures(tmp_path / "i", *loaded, ["1/../0/0.png"], name="shapes")
    monkeypatch.chdir(photos / "0")
    assert embed.pictures(tmp_path / "i", *loaded, [photos / "0" / "0.png", "0.png"], name="shapes").new == 0
    assert embed.read(tmp_path / "i").names == [str(photos / "0" / "0.png")]


def test_a_repaired_picture_is_added(tmp_path, loaded, readable):
    path = tmp_path / "late.png"
    assert embed.pictures(tmp_path / "i", *loaded, [path, readable[0]], name="shapes") == (1, 1, 1)
    shutil.copy(readable[1], path)
    assert embed.pictures(tmp_path / "i", *loaded, [path, readable[0]], name="shapes") == (2, 1, 0)
    assert embed.read(tmp_path / "i").names == [readable[0], str(path)]
    assert (tmp_path / "i" / "_failed.jsonl").read_text() == ""


def test_texts(tmp_path, loaded):
    model, _ = loaded
    texts = ["a red circle", "a blue star", "a red circle", "a green heart " * 30]
    assert embed.texts(tmp_path / "i", model, texts, name="shapes") == (4, 4, 0)
    metadata, names, features = embed.read(tmp_path / "i")
    assert names == texts and metadata["kind"] == "texts" and metadata["preprocess"] == {}
    assert close_in_float16(features, l2_normalize(model.encode_text(model.tokenize(texts, truncate=True))))
    assert embed.texts(tmp_path / "i", model, [*texts, "a star"], name="shapes") == (5, 1, 0)


def test_another_model_and_another_preprocessing_are_refused(tmp_path, loaded, readable):
    model, preprocess = loaded
    embed.pictures(tmp_path / "i", model, preprocess, readable[:2], name="shapes")
    with pytest.raises(InputError, match=r"exif is False, not True"):
        embed.pictures(tmp_path / "i", *miniclip.load("shapes", "numpy", exif=True), readable[:3], name="shapes")
    with pytest.raises(InputError, match=r"image_size is 48, not 64"):
        embed.pictures(tmp_path / "i", model, type(preprocess)(64), readable[:3], name="shapes")
    other, _ = miniclip.load("shapes", "numpy")
    other.params["logit_scale"] = other.params["logit_scale"] * 1.01
    with pytest.raises(InputError, match="has features of another model"):
        embed.pictures(tmp_path / "i", other, preprocess, readable[:3], name="shapes")
    with pytest.raises(InputError, match="has features of pictures, not of texts"):
        embed.texts(tmp_path / "i", model, ["a star"], name="shapes")
    on_torch = miniclip.load("shapes", "torch", dtype="bfloat16")  # the same weights
    assert embed.pictures(tmp_path / "i", *on_torch, readable[:3], name="shapes") == (3, 1, 0)


def test_features_that_are_not_numbers_are_refused_and_what_came_before_is_kept(
    tmp_path, loaded, readable, monkeypatch
):
    model, preprocess = loaded
    encode, calls = model.encode_image, []
    monkeypatch.setattr(model, "encode_image", lambda x: encode(x) * (np.nan if calls.append(0) or calls[2:] else 1))
    with pytest.raises(InputError, match="not numbers"):
        embed.pictures(tmp_path / "i", model, preprocess, readable, name="shapes", batch=10)
    assert embed.read(tmp_path / "i").names == readable[:20]


def test_a_batch_has_one_at_least(tmp_path, loaded, readable, capsys):
    with pytest.raises(InputError, match="batch is 0, expected how many are encoded at a time: 1 or more"):
        embed.pictures(tmp_path / "i", *loaded, readable[:2], name="shapes", batch=0)
    with pytest.raises(SystemExit, match="2"):
        main(["embed", readable[0], "-o", str(tmp_path / "i"), "--batch", "0"])
    assert "'0' is not an integer 1, 2, 3, ..." in capsys.readouterr().err


def test_what_is_left_is_counted_without_what_is_named_twice(tmp_path, readable, capsys):
    assert main(["embed", readable[0], readable[0], readable[1], "-o", str(tmp_path / "i")]) == 0
    assert "2 of 3 pictures are left to embed" in capsys.readouterr().err
