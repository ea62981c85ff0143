"""Pictures with labels and captions, from every kind of source: which class each picture has, and what is refused."""

import io
import logging

import numpy as np
import pytest
from PIL import Image
from training_pictures import encoded, write_tar

import miniclip
from miniclip import InputError
from miniclip.evaluate import datasets

NAMES = ["red square", "blue circle", "a cat"]


def picture(colour="red"):
    return Image.new("RGB", (8, 8), colour)


@pytest.fixture
def folder(tmp_path):
    """Folders of two classes; the second one has another folder inside."""
    for name in ("red_square/1.png", "red_square/2.png", "blue_circle/deep/3.png", "blue_circle/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(tmp_path / name)
    (tmp_path / "blue_circle" / "notes.md").write_text("no picture")
    return tmp_path


def table(path, *rows):
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def lines(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def benchmark(folder, labels, kind="cls", split="test", **texts):
    """A folder as CLIP_benchmark's exporter writes it, two pictures in a shard.

    Compared with what `convert_dataset` and `convert_retrieval_dataset` of version 1.6.2 wrote for these pictures and
    labels (max_count=2): names of folders and files, texts, the members of the shards, their order and labels.
    """
    shards = range(0, len(labels), 2)  # the first picture of each
    lines(folder / split / "nshards.txt", str(len(shards)))
    for number, start in enumerate(shards):
        members = []
        for i, label in enumerate(labels[start : start + 2], start):
            members += [(f"s{i:07}.{kind}", str(label).encode()), (f"s{i:07}.webp", encoded(picture(), "WEBP"))]
        write_tar(folder / split / f"{number}.tar", members)
    for name, content in texts.items():
        lines(folder / f"{name}.txt", *content)
    return folder


def test_folders_of_classes(folder, tmp_path):
    found = datasets.labelled(folder)
    assert found.classes == ["blue circle", "red square"] and found.truth.tolist() == [0, 1, 1]
    assert found.templates == ["{}"] and found.pairs.source == str(folder)
    assert [name[-5:] for name in found.pairs.names] == ["3.png", "1.png", "2.png"]
    assert datasets.task_of(folder) == "classification"
    assert datasets.labelled(folder, NAMES).truth.tolist() == [1, 0, 0]


def test_classes_may_name_the_folders_in_sorted_order(folder, caplog):
    caplog.set_level(logging.INFO, "miniclip.train")
    assert datasets.labelled(folder, ["disc", "box"]).truth.tolist() == [0, 1, 1]
    assert "blue circle is 'disc'" in caplog.text
    with pytest.raises(InputError, match="2 of its labels are none of the 2 classes, such as 'blue circle'"):
        datasets.labelled(folder, ["disc", "box"], by_order=False)
    with pytest.raises(InputError, match="none of the 3 classes"):  # another number of folders
        datasets.labelled(folder, ["disc", "box", "star"])
    with pytest.raises(InputError, match=r"1 of its labels .* such as 'red square'"):  # one of them is spelt otherwise
        datasets.labelled(folder, ["blue circle", "red sqare"])


def test_tables_of_labels(folder):
    rows = ["path,label", "red_square/1.png,box", "blue_circle/deep/3.png,disc"]
    path = table(folder / "t.csv", *rows)
    found = datasets.labelled(path)
    assert found.classes == ["box", "disc"] and found.truth.tolist() == [0, 1]
    assert datasets.task_of(path) == "classification"
    numbers = table(folder / "n.csv", "path,label", "red_square/1.png,2", "blue_circle/deep/3.png,0")
    assert datasets.labelled(numbers, NAMES).truth.tolist() == [2, 0]
    assert datasets.labelled(numbers).classes == ["0", "2"]
    with pytest.raises(InputError, match="none of the 3 classes, such as '0'"):
        datasets.labelled(numbers, NAMES, by_order=False)
    with pytest.raises(InputError, match="none of the 2 classes, such as '2': expected numbers"):
        datasets.labelled(numbers, NAMES[:2])
    other = table(folder / "o.csv", "path,what", *rows[1:])
    assert datasets.labelled(other, columns=("path", "what")).classes == ["box", "disc"]
    twice = table(folder / "2.csv", *rows, "red_square/1.png,disc")
    with pytest.raises(InputError, match=r"1\.png: has the labels box, disc, expected one"):
        datasets.labelled(twice)
    with pytest.raises(InputError, match="the class 'box' is there twice"):
        datasets.labelled(path, ["box", "disc", "box"])


def test_the_task_is_seen_from_names_or_asked_for(folder):
    captions = table(folder / "c.csv", "path,caption", "red_square/1.png,a box")
    both = table(folder / "b.csv", "path,caption,label", "red_square/1.png,a box,box")
    neither = table(folder / "n.csv", "path,what", "red_square/1.png,a box")
    assert datasets.task_of(captions) == "retrieval"
    for path, words in ((both, "has both"), (neither, "has neither")):
        with pytest.raises(InputError, match=f"{words} .*: pass --task classification or --task retrieval"):
            datasets.task_of(path)
    lines(folder / "red_square" / "1.txt", "a box")
    assert datasets.task_of(folder) == "retrieval"


def test_a_list_of_pictures_with_labels():
    found = datasets.labelled([(picture(), "red square"), (picture("blue"), "blue circle")], NAMES)
    assert found.truth.tolist() == [0, 1]
    with pytest.raises(InputError, match="at least two classes, but all are 'red square'"):
        datasets.labelled([(picture(), "red square")])


TEMPLATES = "zeroshot_classification_templates"


def test_shards_of_clip_benchmark(tmp_path):
    texts = {"classnames": ["2", "1", "0"], TEMPLATES: ["a {c}", "the {c}."]}  # labels are numbers, not these names
    folder = benchmark(tmp_path, [2, 0, 1, 1, 0], **texts)
    for source in (folder, folder / "test"):
        found = datasets.labelled(source)
        assert found.classes == ["2", "1", "0"] and found.truth.tolist() == [2, 0, 1, 1, 0]
        assert found.templates == ["a {}", "the {}."]
        assert datasets.task_of(source) == "classification"
    benchmark(tmp_path, [1, 1], split="train")
    assert datasets.labelled(folder / "train").truth.tolist() == [1, 1]
    assert datasets.labelled(str(folder / "test" / "{0..2}.tar"), NAMES).truth.tolist() == [2, 0, 1, 1, 0]
    with pytest.raises(InputError, match=r"has numbers for labels, and no classnames\.txt"):
        datasets.labelled(str(folder / "test" / "0.tar"))
    with pytest.raises(InputError, match="such as '2': expected numbers from 0 on"):
        datasets.labelled(folder, NAMES[:2])
    lines(folder / "dataset_type.txt", "multilabel")
    with pytest.raises(InputError, match="says multilabel, expected classification or retrieval"):
        datasets.task_of(folder)


def test_each_line_of_clip_benchmarks_texts_is_a_caption(tmp_path):
    folder = benchmark(tmp_path, ["a box\na red box", "a disc"], "txt", dataset_type=["retrieval"])
    assert datasets.task_of(folder) == "retrieval"
    assert datasets.captioned(folder).captions == [("a box", "a red box"), ("a disc",)]


def test_features_keep_their_order_without_broken_pictures(tmp_path):
    model, preprocess = miniclip.load("shapes")
    colours = ["red", "green", "blue"]
    shown = [encoded(picture(colour)) for colour in colours]
    gone = io.BytesIO(b"no picture")
    found = datasets.labelled([(gone, "a"), (shown[0], "b"), (b"\x00", "a"), (shown[1], "a"), (shown[2], "b")])
    seen = []

    def progress(numbers):
        for i in numbers:
            seen.append(i)
            yield i

    ((numbers, x),) = datasets.features(model, preprocess, found.pairs, progress)
    assert numbers.tolist() == [1, 3, 4] and seen == [0, 1, 2, 3, 4]
    said = "cannot be read as a picture: cannot identify image file"
    assert found.pairs.skipped == {"row 0": said, "row 2": said}
    np.testing.assert_allclose(x, model.encode_image(preprocess(shown)), rtol=1e-4, atol=1e-5)


def test_templates_in_a_file(tmp_path):
    assert datasets.templates_in(lines(tmp_path / "t.txt", "a {c}", "", " a photo of {} ")) == ["a {}", "a photo of {}"]
