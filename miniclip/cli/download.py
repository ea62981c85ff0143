"""`miniclip download`: download models in advance, and print their paths."""

from miniclip import api, weights
from miniclip.fetch import hub, vocabulary
from miniclip.runtime import caches


def add_arguments(command):
    command.set_defaults(command=download)
    command.add_argument(
        "names",
        nargs="+",
        metavar="MODEL",
        help="a model's name, an id on Hugging Face's hub (owner/name), vocabulary, all (every named model and the "
        "vocabulary), or a file for tests: " + ", ".join(weights.manifest()["test_files"]),
    )
    command.add_argument("--root", metavar="DIR", help="the directory to download to (default: the cache)")


def download(options):
    test_files = weights.manifest()["test_files"]
    everything = [*api.available_models(), "vocabulary"]
    for name in [name for given in options.names for name in (everything if given == "all" else [given])]:
        if name == "vocabulary":
            found = None if options.root else vocabulary.find()
            # fetching checks the one in our cache
            elsewhere = found and found.parent != caches.cache_directory()
            path = found if elsewhere else vocabulary.fetch(options.root)
        elif name in test_files:
            path = hub.file(test_files[name], options.root)
        elif name in api.available_models():
            path = hub.model(name, options.root, check=True)
        else:
            path = hub.find(name, options.root)
        print(f"{name}: {path}", flush=True)
