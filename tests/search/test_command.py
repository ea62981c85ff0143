"""`miniclip search`: what it prints, writes and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from PIL import Image
from search_indexes import write

import miniclip
from miniclip import params
from miniclip.checkpoints import huggingface
from miniclip.cli import main
from miniclip.train import shapes

EXAMPLE = str(ROOT / "weights" / "example.png")
PAIRS = [("red", "heart"), ("blue", "heart"), ("red", "star"), ("green", "circle")]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of twelve pictures, three of each pair."""
    folder, rng, paths = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3), []
    for i, pair in enumerate(PAIRS * 3):
        paths.append(str(folder / f"{'-'.join(pair)}-{i}.png"))
        shapes.draw(shapes.one_object(rng, pair, smallest=0.35), rng).save(paths[-1])
    model, preprocess = miniclip.load("shapes", "numpy")
    features = model.encode_image(preprocess(paths), normalize=True)
    return str(write(folder / "index", features, paths, model=model))


def found(capsys, *arguments):
    """The kinds of the hits that `miniclip search` prints as JSON, such as "red-heart"."""
    assert main(["search", *arguments, "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert all(hit.keys() == {"path", "score"} for hit in hits)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    return [Path(hit["path"]).name.rpartition("-")[0] for hit in hits]


def test_a_text_a_picture_and_both(index, capsys):
    assert found(capsys, index, "a red heart", "-k", "3") == ["red-heart"] * 3
    assert found(capsys, index, "--image", EXAMPLE, "-k", "3") == ["red-heart"] * 3
    assert found(capsys, index, "blue", "--image", EXAMPLE, "--minus", "red", "-k", "3") == ["blue-heart"] * 3
    assert found(capsys, index, "a star", "--approximate", "-k", "3") == ["red-star"] * 3
    assert len(found(capsys, index, "a star")) == 10


def test_a_table(index, capsys):
    assert main(["search", index, "a red heart", "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(float(line[:7]) > 0.3 for line in lines)
    assert all("/red-heart-" in line for line in lines)


def test_hits_are_written_and_written_again(index, capsys, tmp_path):
    for name in ("hits.png", "hits.html"):
        for text in ("a star", "a <heart>"):
            assert main(["search", index, text, "-k", "4", "-o", str(tmp_path / name), "--minus", "x"]) == 0
            printed = capsys.readouterr()
            assert f"{tmp_path / name} is written" in printed.err and len(printed.out.splitlines()) == 4
    with Image.open(tmp_path / "hits.png") as sheet:
        assert sheet.width > 500
    assert "<h1>“a &lt;heart&gt;” minus “x”</h1>" in (tmp_path / "hits.html").read_text()


def test_texts(tmp_path, capsys):
    model, _ = miniclip.load("shapes", "numpy")
    texts = ["a red heart", "a blue star"]
    folder = write(
        tmp_path / "texts", model.encode_text(model.tokenize(texts), normalize=True), texts, kind="texts", model=model
    )
    assert main(["search", str(folder), "--image", EXAMPLE, "-k", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert hit["text"] == "a red heart" and hit.keys() == {"text", "score"}


def test_what_a_user_should_know(index, capsys):
    main(["search", index, "a dog", EXAMPLE])
    error = capsys.readouterr().err
    assert "It never saw these words" in error and "dog" in error and f"search for it with --image {EXAMPLE}" in error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["INDEX"], 2, "there is nothing to search for: give a TEXT or --image PICTURE"),
        (["INDEX", "a star", "-k", "0"], 2, "argument -k: '0' is not an integer 1, 2, 3"),
        (["INDEX", "a star", "--probes", "3"], 2, "--probes is for --approximate"),
        (["INDEX", "a star", "--probes", "0", "--approximate"], 2, "argument --probes: '0' is not an integer 1, 2, 3"),
        (["none", "a star"], 1, "none: cannot be read as the folder of an index"),
        ([str(ROOT / "weights"), "a star"], 1, "weights: is not an index, or is empty"),
        (["INDEX", "--image", "none.png"], 1, "none.png: no such file"),
        (["INDEX", "a star", "-o", EXAMPLE], 1, "example.png: exists, and the hits would replace it"),
        (["INDEX", "a star", "-o", "hits.gif"], 1, "hits.gif: the hits can be written as"),
        (["INDEX", "red " * 50], 1, "text 0 has"),
    ],
)
def test_what_is_refused(index, capsys, arguments, code, message):
    arguments = ["search", *(index if x == "INDEX" else x for x in arguments)]
    if code == 2:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    else:
        assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_pictures_and_texts_are_embedded_and_searched(index, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", str(Path(index).parent / "*.png"), "-o", "photos"]) == 0
    assert found(capsys, "photos", "a blue heart", "-k", "3") == ["blue-heart"] * 3
    Path("texts.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("a red heart", "a <b>star</b>"))
    )
    assert main(["embed", "texts.jsonl", "-o", "texts"]) == 0
    assert main(["search", "texts", "a star", "-k", "1", "-o", "hits.html"]) == 0
    assert capsys.readouterr().out.endswith("  a <b>star</b>\n") and "&lt;b&gt;star" in Path("hits.html").read_text()
    assert main(["search", "texts", "a star", "-o", "hits.png"]) == 1
    assert "a picture cannot show texts" in capsys.readouterr().err


def test_a_search_imports_no_package_that_it_does_not_need(index):
    code = f"from miniclip.cli import main; import sys; main(['search', {index!r}, 'a star'])"
    code += "; print({'matplotlib', 'pandas', 'torch', 'faiss', 'sklearn'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_another_model_is_refused(index, capsys, tmp_path):
    model, _ = miniclip.load("shapes", "numpy")
    huggingface.save(tmp_path / "changed", model.config, params.tree_map(lambda x: x * 1.01, model.params))
    assert main(["search", index, "a star", "--model", str(tmp_path / "changed")]) == 1
    error = capsys.readouterr().err
    assert "features of the model shapes, and the weights of" in error and "changed are other ones" in error
