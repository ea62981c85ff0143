"""`miniclip evaluate` on drawn pictures: the same numbers as computed from features directly, figures, and refusals."""

import csv
import json
import tracemalloc
import types

import matplotlib
import numpy as np
import pytest
from PIL import Image

matplotlib.use("Agg")

import miniclip
from miniclip.cli import main
from miniclip.evaluate import classification, datasets, metrics, report, retrieval
from miniclip.ops import numpy_ops
from miniclip.train import data, shapes
from miniclip.viz import evaluation
from miniclip.zero_shot import class_embeddings

LABELS = ["red square", "blue heart", "green star", "black circle", "pink cross", "white diamond", "orange crescent"]


@pytest.fixture(scope="module")
def model():
    return miniclip.load("shapes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures of each class, two of them small and so difficult; and one that cannot be read."""
    folder, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for i, label in enumerate(LABELS):
        place = folder / label.replace(" ", "_")
        place.mkdir()
        for j in range(4):
            scene = shapes.one_object(rng, tuple(label.split()) if j else shapes.PAIRS[i])
            shapes.draw(scene, rng).save(place / f"{j}.png")
    (folder / "red_square" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures with two captions each; two pictures share one of them."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    rows = [("path", "caption")]
    for i, label in enumerate([*LABELS, LABELS[0]]):
        shapes.draw(shapes.one_object(rng, tuple(label.split())), rng).save(folder / f"{i}.png")
        rows += [(f"{i}.png", f"a {label}"), (f"{i}.png", f"picture {i} of a {label}")]
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def evaluate(capsys, *arguments):
    code = main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_zero_shot_in_json_has_the_numbers_of_all_features_at_once(folder, model, capsys, caplog):
    clip, preprocess = model
    code, out, _ = evaluate(capsys, folder, "--json")
    found = json.loads(out)
    broken = str(folder / "red_square" / "broken.png")
    assert code == 1 and [*found["skipped"]] == [broken] and f"{broken}: cannot be read" in caplog.text

    paths = sorted(path for path in folder.rglob("*.png") if path.name != "broken.png")
    classes = sorted(LABELS)
    truth = np.array([classes.index(path.parent.name.replace("_", " ")) for path in paths])
    logits = clip.logits(clip.encode_image(preprocess(paths)), class_embeddings(clip, classes))  # (n, N)
    best = logits.argmax(axis=1)
    assert (found["pictures"], found["classes"], found["task"]) == (28, 7, "classification")
    assert found["acc1"] == pytest.approx((best == truth).mean()) and 0.3 < found["acc1"] < 1
    top5 = np.argsort(-logits)[:, :5]
    assert found["acc5"] == pytest.approx((top5 == truth[:, None]).any(axis=1).mean())
    assert found["mean_per_class_recall"] == pytest.approx(
        np.mean([(best == truth)[truth == c].mean() for c in range(7)])
    )
    p = numpy_ops.softmax(logits).max(axis=1)
    assert found["ece"] == pytest.approx(metrics.calibration_error(p, best == truth), abs=1e-5)
    for row, name in zip(found["per_class"], classes):
        c = classes.index(name)
        assert row["class"] == name and row["pictures"] == 4
        assert row["recall"] == pytest.approx((best == truth)[truth == c].mean())
        assert row["precision"] == (pytest.approx((best == truth)[best == c].mean()) if (best == c).any() else None)


def test_zero_shot_as_a_table_with_figures(folder, tmp_path, capsys):
    figures = tmp_path / "confusion.png", tmp_path / "calibration.svg"
    options = ["--per-class", "--confusion", figures[0], "--calibration", figures[1]]
    code, out, _ = evaluate(capsys, folder, *options)
    head, names, numbers, empty, columns, *rows = out.splitlines()
    assert code == 1 and head == f"{folder}: 28 pictures of 7 classes" and empty == ""
    assert names.split() == ["top-1", "top-5", "per", "class", "ECE"] and numbers.startswith("zero-shot ")
    assert columns.split()[:3] == ["class", "pictures", "found"] and len(rows) == 7
    found = [float(row.split("%")[0].split()[-1]) for row in rows]
    assert found == sorted(found)  # the worst class comes first
    with Image.open(figures[0]) as image:
        assert image.width > 300
    assert figures[1].read_text().startswith("<?xml")


def test_templates_and_classes_from_files(folder, model, tmp_path, capsys):
    templates, classes = tmp_path / "t.txt", tmp_path / "c.txt"
    templates.write_text("a {c}\nthe {}\n")
    classes.write_text("\n".join([*LABELS, "brown star"]))
    found = json.loads(evaluate(capsys, folder, "--templates", templates, "--classes", classes, "--json")[1])
    assert found["classes"] == 8 and found["per_class"][7]["pictures"] == 0 and found["per_class"][7]["recall"] is None
    labelled = datasets.labelled(folder, [*LABELS, "brown star"])
    classifier = classification.zero_shot(model[0], labelled.classes, ["a {}", "the {}"])
    assert classification.measure(*model, labelled, classifier).summary()["ece"] == pytest.approx(found["ece"])


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_retrieval_counts_equal_captions_as_one(photos, model, capsys, backend):
    clip, preprocess = model
    code, out, _ = evaluate(capsys, photos, "--json", "--backend", backend)
    found = json.loads(out)
    texts = [f"a {label}" for label in LABELS] + [
        f"picture {i} of a {label}" for i, label in enumerate([*LABELS, LABELS[0]])
    ]
    right = np.zeros((8, 15), bool)  # which texts are each picture's
    for i in range(8):
        right[i, i % 7] = right[i, 7 + i] = True
    images = numpy_ops.l2_normalize(clip.encode_image(preprocess([photos / f"{i}.png" for i in range(8)])))
    cosines = images @ numpy_ops.l2_normalize(clip.encode_text(clip.tokenize(texts))).T
    assert (code, found["task"], found["pictures"], found["texts"]) == (0, "retrieval", 8, 15)
    for what, similarity, positives in (("text", cosines, right), ("image", cosines.T, right.T)):
        places = [min(np.flatnonzero(row[np.argsort(-scores)])) for scores, row in zip(similarity, positives)]
        places = np.array(places) + 1
        for k in (1, 5, 10):
            assert found[f"{what}_retrieval_recall@{k}"] == pytest.approx((places <= k).mean())
        assert found[f"{what}_retrieval_mrr"] == pytest.approx((1 / places).mean())
        assert found[f"{what}_retrieval_median_rank"] == np.median(places)
    rows = evaluate(capsys, photos)[1].splitlines()
    assert rows[0] == f"{photos}: 8 pictures with 15 texts"
    assert rows[2].startswith("texts of a picture ") and rows[3].startswith("pictures of a text ")


def test_retrieval_in_small_blocks_is_the_same(photos, model, monkeypatch):
    pairs = data.read(photos)
    before = retrieval.summary(retrieval.retrieval(*model, pairs))
    monkeypatch.setattr(retrieval, "BLOCK", 40)  # two pictures at a time, five texts at a time
    assert retrieval.summary(retrieval.retrieval(*model, pairs)) == pytest.approx(before)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--confusion", "/nowhere/x.png"], "/nowhere/x.png: cannot be written"),
        (["--calibration", "x.txt"], "x.txt: is of no known format"),
        (["--templates", "/nowhere/t.txt"], "/nowhere/t.txt: cannot be read"),
        (["--task", "retrieval", "--per-class"], "is a task of retrieval, without classes: leave out --per-class"),
        (["--probe", "x", "--classes", "y"], "leave out --classes and --templates"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_computed(folder, capsys, options, message, monkeypatch):
    monkeypatch.setattr(datasets, "features", None)
    code, out, err = evaluate(capsys, folder, *options)
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1


def test_numbers_as_labels_get_a_hint(tmp_path, capsys):
    for name in "01":
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "x.png")
    assert "its labels are numbers, which are used as texts" in evaluate(capsys, tmp_path)[2]


def test_a_folder_without_a_readable_picture_is_refused(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    assert "none of its pictures can be read" in evaluate(capsys, tmp_path)[2]


def test_figures_show_what_they_are_given():
    counts = np.array([[5, 1, 0], [0, 4, 0], [2, 0, 9]])
    (axes,) = evaluation.confusion(["a", "b", "c"], counts).axes
    assert [text.get_text() for text in axes.texts] == ["5", "1", "4", "2", "9"]
    many = np.diag(np.full(30, 7))
    many[3, 8], many[20, 3] = 5, 6
    assert evaluation.most_confused(many, 4) == [3, 8, 20]
    assert evaluation.most_confused(np.diag(np.full(30, 7)), 4) == [0, 1, 2, 3]  # none is confused
    (axes,) = evaluation.confusion([f"class {i}" for i in range(30)], many).axes
    assert axes.get_title() == "the most confused,\n3 of 30 classes"
    bins = metrics.reliability_bins([0.95, 0.95, 0.55], [1, 0, 1], bins=10)
    above, below = evaluation.reliability(bins, 0.45).axes
    assert [bar.get_height() for bar in above.patches if bar.get_height() > 0] == [1, 0.5]
    assert above.get_title() == "calibration error 45.0%"
    np.testing.assert_allclose([bar.get_height() for bar in below.patches if bar.get_height()], [1 / 3, 2 / 3])


def test_very_improbable_classes_keep_their_order(monkeypatch):
    """In float32, exp(-110) is 0, and a true class of rank 7 would count as found among the five best in part."""
    monkeypatch.setattr(classification, "class_embeddings", lambda *_: None)

    class Model:
        ops, config = numpy_ops, types.SimpleNamespace(independent=False)

        @staticmethod
        def logits(x, embeddings):
            return np.array([[0, -110, -120, -130, -140, -150, -160, -170]], np.float32)

    found = classification.answers(range(8), [6], classification.zero_shot(Model, range(8))(None))
    assert metrics.median_rank(found.ranks) == 7 and found.summary()["acc5"] == 0


def test_a_class_without_pictures_comes_last():
    answers = classification.answers(["none", "half"], np.array([1, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    _, *rows = report.per_class(answers.per_class()).splitlines()
    assert [row.split() for row in rows] == [["half", "2", "50.0%", "100.0%", "none"], ["none", "0", "-", "0.0%"]]


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_classes_are_those_of_the_confusions(seed):
    rng = np.random.default_rng(seed)
    N, n = rng.integers(2, 7), rng.integers(1, 30)
    answers = classification.answers([*range(N)], rng.integers(0, N, n), rng.random((n, N)))
    counts = answers.confusion()
    for i, row in enumerate(answers.per_class()):
        wrong = np.where(np.arange(N) == i, 0, counts[i])
        assert row["pictures"] == counts[i].sum()
        assert row["recall"] == (counts[i, i] / counts[i].sum() if counts[i].any() else None)
        assert row["precision"] == (counts[i, i] / counts[:, i].sum() if counts[:, i].any() else None)
        assert row["mistaken_for"] == (wrong.argmax() if wrong.any() else None)


def test_rows_of_many_classes_take_little_memory():
    N = 30_000  # their confusions would be 7 GB
    answers = classification.answers([*map(str, range(N))], np.arange(3), np.eye(3, N, 1))
    tracemalloc.start()
    rows = answers.per_class()
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()
    assert [row["mistaken_for"] for row in rows[:4]] == ["1", "2", "3", None]


def test_columns_are_aligned():
    assert report.columns([["", "x"], ["long", "1.5"], ["a", "10.5"]]) == "          x\nlong    1.5\na      10.5"
