"""`miniclip download`: fetch models before they are needed, and say where they are."""

from miniclip import api, weights
from miniclip.fetch import hub, vocabulary


def add_arguments(command):
    command.set_defaults(command=download)
    command.add_argument(
        "names",
        nargs="+",
        metavar="MODEL",
        help="a name, an id on Hugging Face's hub (owner/name), vocabulary, all for every name and the vocabulary, or "
        "a file that tests look at: " + ", ".join(weights.manifest()["test_files"]),
    )
    command.add_argument("--root", metavar="DIR", help="where to (default: the cache)")


def download(options):
    test_files = weights.manifest()["test_files"]
    everything = [*api.available_models(), "vocabulary"]
    for name in [name for given in options.names for name in (everything if given == "all" else [given])]:
        if name == "vocabulary":
            path = vocabulary.fetch(options.root)
        elif name in test_files:
            path = hub.file(test_files[name], options.root)
        elif name in api.available_models():
            path = hub.model(name, options.root, check=True)
        else:
            path = api.find(name, options.root)
        print(f"{name}: {path}", flush=True)
