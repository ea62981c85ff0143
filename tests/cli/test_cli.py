"""The command line, run as users run it: what other commands print, messages, and exit codes."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from commands import LABELS, miniclip

from miniclip import checkpoints, cli, params
from miniclip.config import CLIPConfig, TextConfig, VisionConfig
from miniclip.formats import safetensors

pytest_plugins = ["command_files"]


def test_advice_is_about_options_not_about_arguments(pictures, tmp_path):
    done = miniclip("classify", pictures[0], "--labels", "red " * 40, "blue")
    assert "shorten it: " in done.stderr and "truncate" not in done.stderr
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), TINY.shapes())
    checkpoints.save(tmp_path / "tiny.safetensors", TINY, tree)
    tensors, _ = safetensors.read(tmp_path / "tiny.safetensors")
    safetensors.write(tmp_path / "bare.safetensors", tensors)
    done = miniclip("info", tmp_path / "bare.safetensors")
    assert "does not state its activation: " in done.stderr and "or give --activation quick_gelu" in done.stderr
    assert "activation=" not in done.stderr
    done = miniclip("classify", pictures[0], *LABELS, "--model", tmp_path / "tiny.safetensors")
    assert "tiny.safetensors has no vocabulary, which texts need: give a directory" in done.stderr


@pytest.mark.parametrize("to", ["hf", "miniclip"])
def test_a_converted_model_classifies_the_same(pictures, tmp_path, to):
    done = miniclip("convert", "shapes", tmp_path / "copy", "--to", to)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"written to {tmp_path / 'copy'}\n")
    tables = [miniclip("classify", pictures[0], *LABELS, "--model", model) for model in ("shapes", tmp_path / "copy")]
    assert tables[0].stdout == tables[1].stdout != ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapes", "--to", "openai"], "has a vocabulary of its own"),
        (["shapes", "--to", "open_clip"], "has a vocabulary of its own"),
        (["absent.pt", "--to", "hf"], "absent.pt: no such file"),
        (["shapes", "--to", "hf", "--image-size", "48", "64"], "square pictures"),
        (["shapes", "--to", "miniclip", "--image-size", "3"], "do not fit a picture"),
        (["shapes", "--to", "miniclip", "--activation", "gelu"], "the file states its activation, and it is not gelu"),
    ],
)
def test_a_failed_conversion_leaves_no_files(tmp_path, arguments, message):
    done = miniclip("convert", arguments[0], "out", *arguments[1:], cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_converted_for_another_picture_and_type(tmp_path):
    out = tmp_path / "wide.safetensors"
    done = miniclip("convert", "shapes", out, "--to", "miniclip", "--image-size", "48", "80", "--dtype", "float16")
    assert done.returncode == 0, done.stderr
    info = json.loads(miniclip("info", out, "--json").stdout)
    assert info["config"]["visual"]["image_size"] == [48, 80]
    assert info["shapes"]["visual.patch_embed.position_embedding"][0] == 1 + 6 * 10
    assert out.stat().st_size < 3e6  # two bytes a number


TEXT = TextConfig(context_length=9, vocab_size=300, width=64, layers=1, heads=1, mlp_width=64, eot_token_id=299)


TINY = CLIPConfig(
    VisionConfig(image_size=8, patch_size=4, width=64, layers=1, heads=1, mlp_width=64), TEXT, embed_dim=8
)


def test_a_missing_vocabulary_is_reported_with_its_reason(tmp_path):
    config = CLIPConfig(visual=None, text=TEXT, embed_dim=8)
    tree = params.tree_map(lambda shape: np.zeros(shape, np.float32), config.shapes())
    checkpoints.save(tmp_path / "tiny.safetensors", config, tree)
    done = miniclip("convert", tmp_path / "tiny.safetensors", tmp_path / "out", "--to", "hf")
    assert done.returncode == 0, done.stderr
    reason = "this model has none of its own, and its 300 ids are not the official 49408"
    assert done.stderr == f"the vocabulary is not written: {reason}\n"


def test_info_counts_parameters():
    done = miniclip("info", "shapes", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    info = json.loads(done.stdout)
    sizes = dict.fromkeys(info["shapes"], 1)
    for name, shape in info["shapes"].items():
        for n in shape:
            sizes[name] *= n
    assert sum(info["parameters"].values()) == sum(sizes.values())
    table = miniclip("info", "shapes")
    assert table.returncode == 0
    assert "visual.patch_embed.weight" in table.stdout and f"{sum(sizes.values()):,}" in table.stdout


def test_doctor_reports(tmp_path):
    done = miniclip("doctor", MINICLIP_CACHE=str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("python:", "numpy ", "blas:", "kernel", "cpus:", "gpu:", "cache:", "vocabulary:"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "none.png", *LABELS], "none.png: no such file"),
        (["classify", "empty", *LABELS], "empty: has no pictures"),
        (["classify", "good.png", "*.jpg", *LABELS], "*.jpg: no picture's path fits this pattern"),
        (["classify", "good.png", *LABELS, "--model", "ViT-Z"], "no model 'ViT-Z'"),
        (
            ["classify", "good.png", *LABELS, "--model", "text.png"],
            "text.png: is neither a safetensors file nor a PyTorch file",
        ),
        (["classify", "good.png", "--labels", "red " * 40, "blue"], "text 0 has 42 tokens"),
        (["classify", "good.png", *LABELS, "--template", "a photo"], "the template 'a photo' has no {}"),
        (["info", "empty"], "empty: has neither transformers' config.json"),
        (["train", "shapes", "--out", "m", "--resume"], "m.state: there is no unfinished training to resume"),
        (["train", "shapes", "--out", "no/m"], "no/m: cannot be written"),
        (["train", "shapes", "--out", "empty"], "empty: cannot be written"),
        (["train", "shapes", "--out", "good.png"], "good.png: exists already: pass --force"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(arguments, message, bad_files):
    done = miniclip(*arguments, cwd=bad_files)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("miniclip: ") and done.stderr.count("\n") == 1


def test_the_help_has_examples_that_are_commands():
    alone, asked = miniclip(), miniclip("--help")
    assert (alone.returncode, alone.stderr) == (2, asked.stdout)
    examples = [line for line in asked.stdout.partition("examples:")[2].splitlines() if line.strip()]
    assert len(examples) >= 3
    for line in examples:
        arguments = shlex.split(re.split(r"\s{4,}", line.strip())[0])[1:]
        cli._parser(arguments).parse_args(arguments)


def test_a_list_of_texts_may_have_options_inside(pictures):
    done = miniclip("explain", pictures[0], "a red circle", "--layers", 1, "a star", "--json")
    assert (done.returncode, [found["text"] for found in json.loads(done.stdout)["texts"]]) == (
        0,
        ["a red circle", "a star"],
    )
    done = miniclip("explain", pictures[0], "a red circle", "--layers", 1, "a star", "--jsn")
    assert done.returncode == 2 and "unrecognized arguments: a star --jsn" in done.stderr
    assert miniclip("info", "shapes", "--json", "shapes").returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["classify"],
        ["classify", "a.png"],
        ["classify", "--labels", "a"],
        ["classify", "a.png", "--labels", "a", "--backend", "tpu"],
        ["classify", "a.png", "--labels", "a", "--json", "--csv"],
        ["classify", "a.png", "--labels", "a", "--top", "0"],
        ["train", "shapes", "--steps", "-3"],
        ["train", "shapes", "--seed", "-1"],
        ["info"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    done = miniclip(*arguments)
    assert done.returncode == 2
    assert "usage: miniclip" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -m miniclip info shapes | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
