"""The linear probe: against scikit-learn, the paper's search for C, and the command on drawn pictures."""

import json
import sys
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import miniclip
from miniclip import InputError, probe
from miniclip.cli import main
from miniclip.formats import safetensors
from miniclip.train import shapes

CLASSES = ["red square", "blue heart", "green star"]


def clusters(n, N, E=6, seed=0, spread=1.0):
    """(features (n N, E), classes (n N,)): n of each of N classes, around centres that overlap."""
    rng = np.random.default_rng(seed)
    centres, y = np.random.default_rng(99).normal(size=(N, E)), np.repeat(np.arange(N), n)
    return (centres[y] + spread * rng.normal(size=(n * N, E))).astype(np.float32), y


@pytest.mark.parametrize("N", [2, 3, 5])
def test_a_fit_gives_scikit_learns_probabilities(N):
    x, y = clusters(20, N)
    new, _ = clusters(5, N, seed=1)
    theirs = LogisticRegression(C=0.1, max_iter=1000).fit(x.astype(np.float64), y)
    ours = probe.fit(x, y, [str(c) for c in range(N)], 0.1)
    np.testing.assert_allclose(ours(new), theirs.predict_proba(new.astype(np.float64)), atol=1e-5)
    assert ours.weight.shape == (N, 6) and ours.weight.dtype == np.float32 and ours.converged


def test_the_search_for_c_is_the_papers():
    tried = []

    def score(C):
        tried.append(round(float(np.log10(C)), 3))
        return -abs(np.log10(C) - 1.3)

    assert np.log10(probe.sweep(score)) == pytest.approx(1.25)  # the nearest eighth of a decade
    assert tried[:7] == [-6, -4, -2, 0, 2, 4, 6]
    assert tried[7:] == [1, 3, 0.5, 1.5, 1.25, 1.75, 1.125, 1.375]  # each interval is half of the one before
    for peak in (-6, 6):  # at an end, nothing beyond it is tried
        tried.clear()
        assert probe.sweep(lambda C, peak=peak: score(C * 10 ** (1.3 - peak))) == pytest.approx(10.0**peak)
        assert len(tried) == 11


def test_the_penalty_is_chosen_on_held_out_pictures_and_used_on_all():
    x, y = clusters(30, 3, spread=1.5)
    rest, held = probe.split(y, 0.2, np.random.default_rng(4))
    found = probe.linear_probe(x, y, CLASSES, seed=4)

    def right(C):
        return (LogisticRegression(C=C, max_iter=1000).fit(x[rest], y[rest]).predict(x[held]) == y[held]).mean()

    assert right(found.C) == max(right(10.0**e) for e in range(-6, 7, 2))
    theirs = LogisticRegression(C=found.C, max_iter=1000).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(found.weight, theirs.coef_, atol=1e-4)


def test_a_split_has_a_share_of_each_class():
    y = np.repeat([0, 1, 2, 3], [10, 5, 2, 1])
    rest, held = probe.split(y, 0.2, np.random.default_rng(0))
    assert np.bincount(y[held]).tolist() == [2, 1, 1] and sorted([*rest, *held]) == list(range(18))
    with pytest.raises(InputError, match="each class has one picture"):
        probe.split(np.arange(3), 0.2, np.random.default_rng(0))


def test_neighbours_are_scikit_learns():
    x, y = clusters(20, 3)
    new, _ = clusters(5, 3, seed=1)
    found = probe.neighbours(x, y)
    theirs = KNeighborsClassifier(found.k, metric="cosine", weights="distance").fit(x, y)
    np.testing.assert_allclose(found(new), theirs.predict_proba(new))


def test_few_shots_learn_from_as_many_as_they_say(monkeypatch):
    x, y = clusters(12, 3)
    test = clusters(20, 3, seed=1)
    numbers, fit = set(), probe.fit

    def counted(features, truth, *others):
        numbers.add(tuple(np.bincount(truth).tolist()))
        return fit(features, truth, *others)

    monkeypatch.setattr(probe, "fit", counted)
    found = probe.few_shot((x, y), test, CLASSES, [1, 6], seeds=range(3))
    assert numbers == {(1, 1, 1), (6, 6, 6)}
    assert [*found] == [1, 6] and all(len(row) == 3 for some in found.values() for row in some.values())
    assert np.mean(found[6]["linear probe"]) > np.mean(found[1]["linear probe"]) > 1 / 3
    with pytest.raises(InputError, match="9 pictures of each class, and 4 others to choose C on, are more than the 12"):
        probe.few_shot((x, y), test, CLASSES, [9])


def test_no_warning_is_seen_if_it_has_not_converged(monkeypatch):
    x, y = clusters(20, 3)
    monkeypatch.setattr(probe, "ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not probe.fit(x, y, CLASSES, 1e6).converged
        probe.fit(x[::20], y[::20], CLASSES, 1)  # as many classes as pictures


def test_a_probe_is_saved_without_pickle_and_belongs_to_a_model(tmp_path):
    model, _ = miniclip.load("shapes")
    x, y = clusters(20, 3)
    before = probe.fit(x, y, CLASSES, 0.1)
    before.save(tmp_path / "p.safetensors", model)
    after = probe.Probe.load(tmp_path / "p.safetensors", model)
    assert after == probe.Probe(after.weight, after.bias, CLASSES, 0.1)
    np.testing.assert_array_equal(after(x), before(x))

    other, _ = miniclip.load("shapes")
    other.params["logit_scale"] = other.params["logit_scale"] + 1
    with pytest.raises(InputError, match=r"p\.safetensors: is a probe on the features of another model"):
        probe.Probe.load(tmp_path / "p.safetensors", other)
    safetensors.write(tmp_path / "d.safetensors", {"weight": np.zeros(1)}, {"format": "miniclip.probe"})
    with pytest.raises(InputError, match=r"d\.safetensors: is a damaged probe, 'classes'"):
        probe.Probe.load(tmp_path / "d.safetensors", model)
    safetensors.write(tmp_path / "x.safetensors", {"weight": np.zeros(1)})
    with pytest.raises(InputError, match="is not a probe"):
        probe.Probe.load(tmp_path / "x.safetensors", model)


def test_without_scikit_learn_the_command_says_so_at_once(drawn, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    code, out, err = run(capsys, "probe", drawn / "test")
    assert (code, out) == (1, "") and "a probe needs scikit-learn: " in err and "[probe]" in err


def test_a_class_without_pictures_is_named():
    x, y = clusters(5, 2)
    with pytest.raises(InputError, match="'green star' has no picture to learn from"):
        probe.fit(x, y, CLASSES, 1)


# ------------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Ten pictures of each class to learn from, in folders, and three others; one cannot be read."""
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    for part, number in (("train", 10), ("test", 3)):
        for label in CLASSES:
            place = folder / part / label.replace(" ", "_")
            place.mkdir(parents=True)
            for i in range(number):
                shapes.draw(shapes.one_object(rng, tuple(label.split()), 0.3), rng).save(place / f"{i}.png")
    (folder / "train" / "red_square" / "broken.png").write_bytes(b"no picture")
    return folder


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_learns_measures_and_saves(drawn, tmp_path, capsys, caplog):
    out = tmp_path / "p.safetensors"
    options = ["--test", drawn / "test", "--shots", 1, 2, "--draws", 2, "--out", out, "--json"]
    code, text, err = run(capsys, "probe", drawn / "train", *options)
    found = json.loads(text)
    assert code == 1 and err == f"miniclip: {out} is written\n" and "broken.png: cannot be read" in caplog.text
    assert (found["learned_from"], found["measured_on"], found["classes"]) == (30, 9, 3)
    assert [*found["results"]] == ["linear probe", "k-NN", "zero-shot"]
    assert found["results"]["linear probe"]["acc1"] == found["results"]["zero-shot"]["acc1"] == 1
    assert [*found["few_shot"]] == ["1", "2"] and len(found["few_shot"]["2"]["k-NN"]) == 2

    code, text, err = run(capsys, "evaluate", drawn / "test", "--probe", out, "--json")
    again = json.loads(text)
    assert (code, err, again["classifier"], again["pictures"]) == (0, "", "linear probe", 9)
    for name in ("acc1", "mean_per_class_recall", "ece"):
        assert again[name] == pytest.approx(found["results"]["linear probe"][name], abs=1e-5)


def test_the_command_holds_out_a_share(drawn, capsys):
    code, text, err = run(
        capsys, "probe", drawn / "test", "--held-out", 0.33, "--per-class", "--shots", 1, "--draws", 1
    )
    head, _, *rows = text.splitlines()
    assert code == 0 and err == "" and head == "3 classes, 6 pictures to learn from, 3 to measure on"
    assert [row.split("  ")[0] for row in rows[:3]] == ["linear probe", "k-NN", "zero-shot"]
    assert "pictures of each class" in text and "mistaken most for" in text
    assert rows[3].startswith("C = ")


def test_numbered_classes_have_no_zero_shot_classifier(drawn, tmp_path, capsys):
    rows = [
        f"{path},{i}"
        for i, label in enumerate(CLASSES)
        for path in (drawn / "test" / label.replace(" ", "_")).iterdir()
    ]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,label", *rows]))
    assert [*json.loads(run(capsys, "probe", table, "--json")[1])["results"]] == ["linear probe", "k-NN"]
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    found = json.loads(run(capsys, "probe", table, "--classes", tmp_path / "names.txt", "--json")[1])
    assert "zero-shot" in found["results"] and [row["class"] for row in found["per_class"]] == CLASSES


@pytest.mark.parametrize(
    "options, message",
    [
        (["--out", "/nowhere/p.safetensors"], "/nowhere/p.safetensors: cannot be written"),
        (["--out", __file__], f"{__file__}: exists, and only a probe would be replaced"),
        (["--shots", "0"], "--shots and --draws are numbers from 1 on"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(drawn, capsys, options, message):
    code, out, err = run(capsys, "probe", drawn / "test", *options)
    assert (code, out) == (1, "") and message in err


def test_a_share_is_between_0_and_1(drawn, capsys):
    with pytest.raises(SystemExit):
        main(["probe", str(drawn), "--held-out", "1"])
    assert "'1' is not a share between 0 and 1" in capsys.readouterr().err
