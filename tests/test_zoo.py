"""docs/zoo.md and weights/open_clip.json are what tests/zoo.py and tests/zoo_transformers.py make of both libraries."""

import importlib.util
import json
import re

import pytest
import zoo
import zoo_transformers
from open_clip_models import has_timm, published, running

import miniclip
from miniclip.fetch import open_clip_names, repository

# One of each kind: a ResNet, layer scale, wide heads and CLIPA, CoCa, the end of texts by its id, pictures, SigLIP.
SOME = ["RN50", "ViT-M-16-alt", "ViT-H-14-CLIPA", "coca_ViT-B-32", "ViT-L-14-worldwide", "ViT-L-14", "convnext_base"]
SOME += ["ViT-B-16-SigLIP2"] if has_timm() else []


@pytest.fixture(scope="module")
def official():
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("pip install --no-deps open_clip_torch")
    return published()


def table(begin):
    """The rows of the page's table after the line `begin`."""
    lines = zoo.PAGE.read_text().partition(begin)[2].partition("\n## ")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]


def results():
    """{(model, tag or "-"): what the page says}."""
    return {(model, tag): result for model, tags, result in table(zoo.BEGIN) for tag in tags.split(", ")}


def test_the_names_are_openclips(official):
    assert zoo.NAMES.read_text() == zoo.written(zoo.names(*official))
    assert json.loads(zoo.NAMES.read_text()) == json.loads(json.dumps(zoo.names(*official)))


def test_the_page_has_every_pair_and_what_load_says_to_it(official, monkeypatch):
    class Fetched(Exception):
        pass

    def fetched(*_):
        raise Fetched

    monkeypatch.setattr(repository, "snapshot", fetched)
    configs, tags, _ = official
    found = results()
    assert {model for model, _ in found} == configs.keys()
    pairs = {(model, tag) for model in tags for tag in tags[model]}
    assert pairs == {pair for pair in found if pair[1] != "-"}
    for model, tag in pairs:
        try:
            open_clip_names.find(model, tag)
        except Fetched:
            assert found[model, tag].startswith("equal (")
        except miniclip.InputError as error:
            reason = found[model, tag].removeprefix("refused: ")
            assert str(error).endswith(reason) and reason != found[model, tag]


def test_some_models_are_equal(official):
    configs, tags, _ = official
    found = results()
    with running() as do:
        for model in SOME:
            for some, result in zoo.of_model(do, model, configs[model], tags.get(model, {})):
                for tag in some or ["-"]:
                    assert found[model, tag].partition("(")[0] == result.partition("(")[0], (model, tag)


def test_the_page_has_every_dual_encoder_of_transformers_and_some_are_equal():
    kinds = zoo_transformers.dual_encoders()
    rows = [tuple(row) for row in table(zoo_transformers.BEGIN)]
    assert {row[0] for row in rows} == kinds.keys() and len(kinds) > 20
    for *names, result in rows:
        refused = rf"refused: its model_type is '{names[0]}', expected one of [\w, -]+: load others with transformers"
        assert re.fullmatch(rf"equal \(\de-0[67], \de-0[67]\)|{refused}", result)
    for *names, result in zoo_transformers.rows({name: kinds[name] for name in ("clip", "clap")}):
        assert next(row[3] for row in rows if row[:3] == tuple(names)).partition("(")[0] == result.partition("(")[0]
