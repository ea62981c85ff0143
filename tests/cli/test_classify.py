"""`miniclip classify`, run as users run it: which pictures and labels it takes, what it prints and hints at."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from backends import QUICK
from commands import LABELS, miniclip
from PIL import ExifTags, Image

from miniclip import api, checkpoints
from miniclip.ops import numpy_ops

pytest_plugins = ["command_files"]


@pytest.mark.parametrize("backend", ["auto", *QUICK])
def test_classify_as_json(pictures, backend):
    done = miniclip("classify", *pictures, *LABELS, "--json", "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    assert [r["image"] for r in results] == list(map(str, pictures))
    assert [r["labels"][0]["label"] for r in results] == ["a red circle", "a blue square"]
    for result in results:
        probabilities = [entry["probability"] for entry in result["labels"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert {entry["label"] for entry in result["labels"]} == set(LABELS[1:])


def test_classify_as_a_table(pictures):
    done = miniclip("classify", pictures[0], *LABELS)
    assert (done.returncode, done.stderr) == (0, "")
    title, best, *others = done.stdout.splitlines()
    assert title == str(pictures[0])
    assert best.startswith("  a red circle ") and best.count("█") >= 15
    assert len(others) == 2 and all("%" in line for line in others)


def test_a_terminal_that_lacks_a_character_gets_another(pictures, tmp_path):
    odd = tmp_path / "disc ♥.png"
    odd.write_bytes(pictures[0].read_bytes())
    done = miniclip("classify", odd, *LABELS, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "disc ?.png" in done.stdout and "?" * 15 in done.stdout


def test_the_template_is_put_around_each_label(pictures):
    plain = miniclip("classify", pictures[0], "--labels", "a photo of a red circle", "a photo of a star", "--json")
    templated = miniclip(
        "classify", pictures[0], "--labels", "a red circle", "a star", "--template", "a photo of {}", "--json"
    )
    a, b = (json.loads(done.stdout)[0]["labels"] for done in (plain, templated))
    assert [x["probability"] for x in a] == [x["probability"] for x in b]
    assert [x["label"] for x in b] == ["a red circle", "a star"]


def test_several_templates_are_averaged(pictures):
    """As in OpenAI's notebook: the mean of the unit features of each template, normalised."""
    templates = ["a photo of {}", "there is {}"]
    given = [word for template in templates for word in ("--template", template)]
    done = miniclip("classify", pictures[0], *LABELS, *given, "--json")
    model, preprocess = api.load()
    texts = [[template.replace("{}", label) for label in LABELS[1:]] for template in templates]
    features = [numpy_ops.l2_normalize(model.encode_text(model.tokenize(each))) for each in texts]  # (3, E) each
    classes = numpy_ops.l2_normalize(np.mean(features, axis=0))
    image = numpy_ops.l2_normalize(model.encode_image(preprocess([str(pictures[0])])))  # (1, E)
    cosines = dict(zip(LABELS[1:], (image @ classes.T)[0]))
    for entry in json.loads(done.stdout)[0]["labels"]:
        assert entry["cosine"] == pytest.approx(cosines[entry["label"]], abs=1e-5)
    last = miniclip("classify", pictures[0], *LABELS, *given[2:], "--json")
    assert last.stdout != done.stdout


def test_the_best_labels_only(pictures):
    done = miniclip("classify", pictures[0], *LABELS, "--top", 1)
    title, best = done.stdout.splitlines()
    assert title == str(pictures[0]) and best.startswith("  a red circle ")
    assert len(json.loads(miniclip("classify", *pictures, *LABELS, "--top", 2, "--json").stdout)[1]["labels"]) == 2


def test_pictures_that_can_be_read_are_classified_beside_broken_ones(pictures, bad_files):
    before, after = pictures
    done = miniclip("classify", before, "text.png", "none.png", after, *LABELS, cwd=bad_files)
    assert done.returncode == 1
    alone = [miniclip("classify", picture, *LABELS).stdout for picture in pictures]
    assert done.stdout == "".join(alone) != ""
    first, second = done.stderr.splitlines()
    assert first.startswith("miniclip: text.png: cannot be read as a picture") and second.startswith(
        "miniclip: none.png: no such file"
    )


@pytest.mark.parametrize("given", ["folder", "pattern", "list", "stdin"])
def test_pictures_are_named_by_folders_patterns_and_lists(pictures, tmp_path, given):
    folder = pictures[0].parent
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in sorted(pictures)))
    names = {"folder": folder, "pattern": folder / "*.png", "list": tmp_path / "list.txt", "stdin": "-"}
    command = [sys.executable, "-m", "miniclip", "classify", str(names[given]), *LABELS, "--json"]
    done = subprocess.run(command, input=(tmp_path / "list.txt").read_text(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [result["image"] for result in json.loads(done.stdout)] == [str(path) for path in sorted(pictures)]


def test_labels_in_a_file_and_a_table_as_the_answer(pictures, tmp_path):
    (tmp_path / "labels.txt").write_text("a red circle\n\n  a blue, small square \n", encoding="utf-8-sig")
    done = miniclip("classify", *pictures, "--labels-file", tmp_path / "labels.txt", "--csv")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = csv.reader(done.stdout.splitlines())
    assert head == ["image", "label", "probability", "cosine"]
    best, other = "a red circle", "a blue, small square"
    expected = [
        (str(pictures[0]), best),
        (str(pictures[0]), other),
        (str(pictures[1]), other),
        (str(pictures[1]), best),
    ]
    assert [tuple(row[:2]) for row in rows] == expected
    assert [sum(float(row[2]) for row in rows if row[0] == str(path)) for path in pictures] == pytest.approx([1, 1])
    both = miniclip("classify", pictures[0], "--labels", "a star", "--labels-file", tmp_path / "labels.txt", "--json")
    assert {entry["label"] for entry in json.loads(both.stdout)[0]["labels"]} == {"a star", best, other}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b" \n", "write a label on each line"), (b"\xff", "is not UTF-8 text"), (None, "cannot be read: No such file")],
)
def test_a_file_without_labels_is_named(pictures, tmp_path, content, message):
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    done = miniclip("classify", pictures[0], "--labels-file", tmp_path / "labels.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert "labels.txt: " in done.stderr and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("labels", "hints"),
    [
        (["a red circle", "a blue square", "blue circle in the middle"], []),
        (["a red circle"], ["'a red circle' is the only label, so it always gets 100%"]),
        (["a red circle, a star"], ["is the only label", "separated by spaces, not by commas"]),
        (["a star,", "a circle"], ["separated by spaces, not by commas"]),
        (["a grey circle", "two red stars", "a cat"], ["never saw these words", ": cat, grey, stars, two. For photo"]),
        (["a circle", "star.png"], ["'star.png' is used as a label, but it is a file", "png"]),
    ],
)
def test_labels_that_cannot_be_meant_so_get_one_hint(pictures, tmp_path, labels, hints):
    (tmp_path / "star.png").write_bytes(pictures[0].read_bytes())
    done = miniclip("classify", *pictures, "--labels", *labels, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count("%") == 2 * len(labels)
    lines = done.stderr.splitlines()
    assert all(line.startswith("miniclip: ") for line in lines)
    assert all(hint in done.stderr for hint in hints) and len(lines) == len([h for h in hints if h[0] != ":"])


def test_a_picture_that_no_label_fits_is_marked(pictures, tmp_path):
    Image.new("RGB", (99, 99), (128, 128, 128)).save(tmp_path / "grey.png")
    done = miniclip("classify", tmp_path / "grey.png", *LABELS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "  Probably none of these: right answers reach a cosine of 0.64."
    found = json.loads(miniclip("classify", tmp_path / "grey.png", pictures[0], *LABELS, "--json").stdout)
    assert [len(result["notes"]) for result in found] == [1, 0]
    table = miniclip("classify", tmp_path / "grey.png", pictures[0], *LABELS, "--csv")
    assert table.stderr == f"miniclip: {tmp_path / 'grey.png'}: {found[0]['notes'][0]}\n"
    assert len(table.stdout.splitlines()) == 7
    # The measurement is about labels that name both a colour and a shape.
    assert "Probably" not in miniclip("classify", tmp_path / "grey.png", "--labels", "red", "blue").stdout


def test_a_picture_that_is_stored_turned_is_marked(pictures, tmp_path):
    image = Image.open(pictures[0])
    image.getexif()[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "turned.png", exif=image.getexif())
    done = miniclip("classify", tmp_path / "turned.png", pictures[0], *LABELS)
    assert done.stdout.count("to be turned (EXIF)") == 1


def test_a_picture_is_turned_if_asked(pictures, tmp_path):
    """Upright, the picture is wider than high, so what is seen of its middle differs."""
    upright = Image.open(pictures[0]).crop((40, 0, 200, 120))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise: it is stored turned the other way
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    asked = miniclip("classify", tmp_path / "turned.png", tmp_path / "upright.png", *LABELS, "--json", "--exif")
    stored = miniclip("classify", tmp_path / "turned.png", *LABELS, "--json")
    turned, as_seen, as_stored = [*json.loads(asked.stdout), *json.loads(stored.stdout)]
    first, second, third = ([entry["cosine"] for entry in result["labels"]] for result in (turned, as_seen, as_stored))
    assert first == pytest.approx(second, abs=1e-5) != third
    assert turned["notes"] == as_seen["notes"] == [] and "see --exif" in as_stored["notes"][0]


@pytest.mark.parametrize("tower, number", [("visual", np.nan), ("visual", 0), ("text", np.nan)])
def test_a_model_of_nan_is_one_error(tmp_path, bad_files, tower, number):
    config, tree, tokenizer = checkpoints.load(api.hub.find("shapes"), dtype="float32")
    tree[tower]["projection"]["weight"][:] = number
    checkpoints.save(tmp_path / "nan.safetensors", config, tree, tokenizer=tokenizer)
    done = miniclip("classify", "good.png", *LABELS, "--model", "nan.safetensors", cwd=bad_files)
    assert (done.returncode, done.stdout) == (1, "")
    assert "weights may be NaN: load another file" in done.stderr and done.stderr.count("\n") == 1


def test_a_hint_names_twenty_words_at_most(tmp_path, bad_files):
    (tmp_path / "labels.txt").write_text("\n".join(f"word{i}" for i in range(1_022)))
    done = miniclip("classify", "good.png", "--labels-file", tmp_path / "labels.txt", "--top", 1, cwd=bad_files)
    assert "word1, word10," in done.stderr and "and 1,002 more. For photographs" in done.stderr
    assert len(done.stderr) < 600


def test_pictures_after_the_labels_are_explained(pictures):
    done = miniclip("classify", "--labels", "a star", "a circle", pictures[0])
    assert done.returncode == 2
    assert "write the pictures before --labels" in done.stderr
