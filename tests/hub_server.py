"""An empty home directory, and a server of files: those of a manifest, and models as on Hugging Face's hub."""

import json
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from scripted_server import sha256

from miniclip import api, weights
from miniclip.fetch import hub

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
OURS = ("MINICLIP_VOCAB", "MINICLIP_OFFLINE", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HF_HOME", "HF_TOKEN", *PROXIES)
OURS += ("HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home directory."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINICLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A server of the files in `server.directory`; paths in `server.refused`, {path: HTTP status}, are refused."""
    directory = tmp_path_factory.mktemp("server")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            self.server.asked.append(self.path)
            self.server.tokens.append(self.headers.get("Authorization"))
            super().do_GET() if path not in self.server.refused else self.send_error(self.server.refused[path])

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=directory)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.directory, server.asked, server.tokens, server.refused = directory, [], [], {}
        server.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def manifest(server, monkeypatch):
    """A manifest of the same form, with files from this server."""
    content = {name: name.encode() * 1000 for name in ("ViT-B-32.pt", "CLIP.png")}
    entries = {
        name: {"file": name, "urls": [f"{server.url}/{name}"], "sha256": sha256(each), "bytes": len(each)}
        for name, each in content.items()
    }
    for name, each in content.items():
        put(server.directory / name, each)
    manifest = {
        "models": {"shapes": weights.manifest()["models"]["shapes"], "ViT-B/32": entries["ViT-B-32.pt"]},
        "test_files": {"CLIP.png": entries["CLIP.png"]},
    }
    for module in (api, hub, weights):
        monkeypatch.setattr(module, "manifest", lambda: manifest)
    return content


RIGHT = b"ViT-B-32.pt" * 1000  # a file in a cache was checked before: only its size is compared

HF = {"config.json": b"{}", "model.safetensors": b"weights" * 99, "merges.txt": b"a b", "vocab.json": b"{}"}
HF |= dict.fromkeys(("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"), b"{}")
HF |= dict.fromkeys(("added_tokens.json", "adapter_config.json", "spiece.model", "sentencepiece.bpe.model"), b"{}")
HF |= dict.fromkeys(("preprocessor_config.json", "processor_config.json"), b"{}")


def publish(server, files, commit=COMMIT, repo_id="owner/name"):
    """Put files on the server as on Hugging Face: files of weights have a SHA-256, the others git's sum."""
    siblings = []
    for name, content in files.items():
        put(server.directory / repo_id / "resolve" / commit / name, content)
        git = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
        entry = {"rfilename": name, "size": len(content), "blobId": git.stdout.decode().strip()}
        if name.endswith((".safetensors", ".bin")):
            entry["lfs"] = {"size": len(content), "sha256": sha256(content), "pointerSize": 134}
            entry["blobId"] = COMMIT  # the sum of the git-lfs pointer, not of the file
        siblings.append(entry)
    listing = {"id": repo_id, "sha": commit, "siblings": siblings}
    put(server.directory / "api" / "models" / repo_id, json.dumps(listing).encode())
