"""docs/zoo.md and weights/open_clip.json are what tests/zoo.py makes of OpenCLIP, and some of its models are equal."""

import importlib.util
import json

import pytest
import zoo
from open_clip_models import published, running

import miniclip
from miniclip.fetch import open_clip_names, repository

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None, reason="pip install --no-deps open_clip_torch"
)
# One of each kind: a ResNet, layer scale, wide heads and CLIPA, CoCa, the end of texts by its id, other pictures.
SOME = ["RN50", "ViT-M-16-alt", "ViT-H-14-CLIPA", "coca_ViT-B-32", "ViT-L-14-worldwide", "ViT-L-14", "convnext_base"]


@pytest.fixture(scope="module")
def official():
    return published()


def results():
    """{(model, tag or "-"): what the page says}."""
    rows = [line.strip("| ").split(" | ") for line in zoo.PAGE.read_text().partition(zoo.BEGIN)[2].splitlines()[6:]]
    return {(model, tag): result for model, tags, result in rows for tag in tags.split(", ")}


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
