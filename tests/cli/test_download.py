"""`miniclip download`: what it prints, and which files it checks."""

# ruff: noqa: F811  fixtures are imported, and are arguments of the same name

import sys

import pytest
from hub_server import COMMIT, HF, RIGHT, VOCABULARY, home, manifest, publish, put, server  # noqa: F401
from scripted_server import files_in

from miniclip import cli, weights
from miniclip.fetch import hub, vocabulary


def test_download_prints_the_path_of_each_file(home, server, manifest, capsys):
    publish(server, HF)
    assert cli.main(["download", "shapes", "ViT-B/32", "CLIP.png", "owner/name"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"shapes: {weights.DIRECTORY / 'shapes.safetensors'}",
        f"ViT-B/32: {home / 'cache' / 'ViT-B-32.pt'}",
        f"CLIP.png: {home / 'cache' / 'CLIP.png'}",
        f"owner/name: {home / 'cache' / 'models--owner--name' / 'snapshots' / COMMIT}",
    ]
    assert (home / "cache" / "CLIP.png").read_bytes() == manifest["CLIP.png"]


def test_download_all(home, server, manifest, capsys, monkeypatch):
    monkeypatch.setattr(vocabulary, "fetch", lambda root: f"{root}/vocabulary")
    assert cli.main(["download", "all", "--root", str(home / "root")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"shapes: {weights.DIRECTORY / 'shapes.safetensors'}",
        f"ViT-B/32: {home / 'root' / 'ViT-B-32.pt'}",
        f"vocabulary: {home / 'root' / 'vocabulary'}",
    ]
    assert files_in(home) == ["root/ViT-B-32.pt"]


def test_download_fails_with_one_line(home, capsys, monkeypatch):
    monkeypatch.setenv("MINICLIP_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, "clip", None)  # the vocabulary is in no installed package
    for name in ("vocabulary", "CLIP.png", "RN50", "owner/name", "nothing at all"):
        assert cli.main(["download", name]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("miniclip: ") and err.count("\n") == 1
    assert files_in(home) == []


@pytest.mark.parametrize("damaged", [RIGHT[:-1] + b"!", RIGHT[:-1]])
@pytest.mark.parametrize("root", [None, "root"])
def test_download_checks_the_sums_of_existing_files(home, server, manifest, capsys, damaged, root):
    directory = home / (root or "cache")
    for name in ("ViT-B-32.pt", "CLIP.png"):
        put(directory / name, manifest[name][:-1] + damaged[-1:])
    options = ["--root", str(directory)] if root else []
    for _ in range(2):
        assert cli.main(["download", "ViT-B/32", "CLIP.png", *options]) == 0
        assert {name: (directory / name).read_bytes() for name in files_in(directory)} == manifest
        assert server.asked == ["/ViT-B-32.pt", "/CLIP.png"]


def test_download_does_not_change_the_cache_of_openai_s_package(home, server, manifest, capsys):
    theirs = put(home / ".cache" / "clip" / "ViT-B-32.pt", RIGHT[::-1])
    assert cli.main(["download", "ViT-B/32"]) == 0
    assert capsys.readouterr().out == f"ViT-B/32: {home / 'cache' / 'ViT-B-32.pt'}\n"
    assert theirs.read_bytes() == RIGHT[::-1] and (home / "cache" / "ViT-B-32.pt").read_bytes() == RIGHT
    put(home / "cache" / "ViT-B-32.pt", RIGHT[::-1])
    theirs.write_bytes(RIGHT)
    assert cli.main(["download", "ViT-B/32"]) == 0
    assert capsys.readouterr().out == f"ViT-B/32: {theirs}\n" and server.asked == ["/ViT-B-32.pt"]


def test_download_checks_the_built_in_model_too(manifest, capsys):
    weights.manifest()["models"]["shapes"] = {**weights.manifest()["models"]["shapes"], "sha256": "0" * 64}
    assert cli.main(["download", "shapes"]) == 1
    assert "shapes.safetensors: is damaged or missing: install miniclip again" in capsys.readouterr().err
    assert hub.find_model("shapes") == weights.DIRECTORY / "shapes.safetensors"


def test_download_checks_the_vocabulary_too(home, server, monkeypatch, capsys, official_vocabulary):
    content = official_vocabulary.read_bytes()
    put(server.directory / VOCABULARY, content)
    entry = {**weights.manifest()["vocabulary"], "urls": [f"{server.url}/{VOCABULARY}"]}
    monkeypatch.setattr(vocabulary, "manifest", lambda: {"vocabulary": entry})
    path = put(home / "cache" / VOCABULARY, bytes([*content[:-1], content[-1] ^ 1]))
    assert cli.main(["download", "vocabulary"]) == 0
    assert path.read_bytes() == content
