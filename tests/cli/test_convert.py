"""`miniclip convert`, and the function behind it: what it replaces, what it refuses, and what a failure leaves."""

import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from miniclip import InputError, checkpoints, params
from miniclip.checkpoints.convert import DIRECTORIES, WRITERS, convert
from miniclip.cli import main
from miniclip.families.align.config import ALIGNConfig, BertConfig, EfficientNetConfig
from miniclip.formats import safetensors, torch_files
from miniclip.weights import DIRECTORY

SHAPES = DIRECTORY / "shapes.safetensors"


def test_an_existing_file_is_replaced_only_if_that_is_wanted(tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"precious")
    assert main(["convert", "shapes", str(path), "--to", "miniclip"]) == 1
    assert "m.safetensors: exists already: move it away, " in capsys.readouterr().err
    assert path.read_bytes() == b"precious"
    assert main(["convert", "shapes", str(path), "--to", "miniclip", "--overwrite"]) == 0
    assert checkpoints.load(path)[0] == checkpoints.load(SHAPES)[0]
    convert(path, path, "miniclip", dtype="float32", overwrite=True)  # onto its own source
    assert checkpoints.load(path)[1]["visual"]["ln_pre"]["weight"].dtype == np.float32


@pytest.mark.parametrize("to", WRITERS)
def test_an_existing_directory_is_never_replaced(to, tmp_path):
    with pytest.raises(InputError, match="exists already: move it away, or write to another path"):
        convert(SHAPES, tmp_path, to, overwrite=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", DIRECTORIES)
def test_a_directory_does_not_get_a_file_s_name(to, tmp_path):
    with pytest.raises(InputError, match=rf"m\.pt: the form '{to}' is a directory, and this is a file's name"):
        convert(SHAPES, tmp_path / "m.pt", to)


@pytest.mark.parametrize("to", ["openai", "open_clip"])
def test_align_is_refused_by_libraries_that_do_not_have_it(to, tmp_path):
    visual = EfficientNetConfig(33, 40, 1.0, 1.0, stages=((1, 16, 3, 2, 1), (1, 24, 3, 2, 6)))
    config = ALIGNConfig(visual, BertConfig(16, 6, width=8, layers=1, heads=2, mlp_width=16), embed_dim=24)
    tree = params.tree_map(lambda shape: np.ones(shape, np.float32), config.shapes())
    checkpoints.save(tmp_path / "align.safetensors", config, tree)
    with pytest.raises(InputError, match="cannot express align models: convert to miniclip or hf"):
        convert(tmp_path / "align.safetensors", tmp_path / "m", to)


def test_the_scale_is_stored_as_float32(tmp_path):
    convert(SHAPES, tmp_path / "m.safetensors", "miniclip", dtype="float16")
    tensors, _ = safetensors.read(tmp_path / "m.safetensors")
    assert tensors.pop("logit_scale").dtype == np.float32
    assert {x.dtype for x in tensors.values()} == {np.dtype("float16")}


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of a file's size")
@pytest.mark.parametrize("to", ["miniclip", "hf", "pt"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(to, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # fails as a full disk does
    try:
        with pytest.raises(InputError, match=r"cannot be written: .*(I/O error|File too large)"):
            if to == "pt":
                torch_files.write(tmp_path / "m", {"x": np.zeros(100_000)})
            else:
                convert(SHAPES, tmp_path / "m", to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_says_that_it_is_incomplete(tmp_path):
    program = """
import os, signal, sys
from miniclip.runtime import files
which = files.atomic_directory if sys.argv[2] == "hf" else files.atomic
with which(sys.argv[1]) as temporary:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for to in ("hf", "miniclip"):
        done = subprocess.run([sys.executable, "-c", program, tmp_path / to, to], check=False)
        assert done.returncode == -signal.SIGKILL
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split(".")[1] for name in names] == ["hf", "miniclip"]
    assert all(name.startswith(".") and name.endswith(".incomplete") for name in names)
    convert(SHAPES, tmp_path / "hf", "hf")  # and is in nobody's way


def test_transformers_reads_a_converted_model_without_warnings(tmp_path, caplog, capsys):
    transformers = pytest.importorskip("transformers")
    convert(SHAPES, tmp_path / "m", "hf")
    transformers.utils.logging.enable_propagation()
    try:
        config = transformers.CLIPModel.from_pretrained(tmp_path / "m").config.text_config
    finally:
        transformers.utils.logging.disable_propagation()
    assert not [record for record in caplog.records if "token_id" in record.getMessage()]
    assert "token_id" not in capsys.readouterr().err
    tokenizer = checkpoints.load(SHAPES)[2]
    assert config.bos_token_id == tokenizer.tokenize(["red"], 9)[0][0] and 0 <= config.pad_token_id < len(tokenizer)


def test_info_of_an_official_model_needs_no_file(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["info", "ViT-B/32"]) == 0
    assert "151,277,313" in capsys.readouterr().out


def test_download_names_the_vocabulary_that_is_here(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    monkeypatch.setenv("MINICLIP_VOCAB", str(tmp_path / "v.gz"))
    (tmp_path / "v.gz").write_bytes(b"v")
    assert main(["download", "vocabulary"]) == 0
    assert capsys.readouterr().out == f"vocabulary: {tmp_path / 'v.gz'}\n"


def test_a_directory_that_may_not_be_looked_into_is_named(monkeypatch, tmp_path):
    import os

    from miniclip.fetch import hub

    stat = os.stat

    def forbidden(path, *arguments, **options):
        if str(path).startswith(str(tmp_path / "private") + os.sep):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    (tmp_path / "private").mkdir()
    monkeypatch.setattr(os, "stat", forbidden)
    for load in (checkpoints.load, hub.find):
        with pytest.raises(InputError, match=r"private/m.*: cannot be read: Permission denied"):
            load(tmp_path / "private" / "m")
    with pytest.raises(InputError, match=r"private/.*: cannot be read: Permission denied"):
        checkpoints.load(tmp_path / "private")
