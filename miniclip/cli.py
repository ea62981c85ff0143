"""The command line: miniclip classify | train | info | convert | download | doctor | learn | bench.

Exit codes: 0 done, 1 something given cannot be used (one line on stderr says what), 2 the command itself is wrong.
`learn check` gives 1 where not all is done, and 2 for both of the others.
"""

import argparse
import dataclasses
import importlib
import json
import math
import os
import sys

from miniclip import __version__, api, checkpoints, params, processor, vocabulary, weights, zero_shot
from miniclip.checkpoints import hub
from miniclip.convert import convert
from miniclip.data import evaluation
from miniclip.doctor import report
from miniclip.errors import InputError
from miniclip.learn import commands as learn
from miniclip.ops import BACKENDS
from miniclip.ops.numpy_ops import ACTIVATIONS

BATCH = 32  # pictures encoded at a time
BAR = 30  # characters of a whole bar
MODEL = "a name, a path, or an id on Hugging Face's hub"
ACTIVATION = "for files of weights that do not tell"


def main(arguments=None):
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # bars and file names that the terminal cannot show
    try:
        code = options.command(options) or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"miniclip: {error}", file=sys.stderr)
        return getattr(options, "unusable", 1)  # `learn check` has another meaning for 1
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def program():
    """The program `miniclip`: this process' own command, which may be started anew."""
    if sys.argv[1:2] != ["doctor"]:  # which tells how things are without that
        processor.restart_with_fast_kernel()
    return main()


def _parser():
    parser = argparse.ArgumentParser(prog="miniclip", description="CLIP that can be read in an afternoon.")
    parser.add_argument("--version", action="version", version=f"miniclip {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("classify", help="which of some texts fits a picture best")
    command.set_defaults(command=classify)
    command.add_argument("pictures", nargs="+", metavar="PICTURE")
    command.add_argument("--labels", nargs="+", required=True, metavar="TEXT")
    command.add_argument("--model", default="shapes", metavar="M", help=f"{MODEL} (default: shapes)")
    command.add_argument("--activation", choices=ACTIVATIONS, help=ACTIVATION)
    command.add_argument("--backend", default="auto", choices=["auto", *BACKENDS])
    command.add_argument("--template", default="{}", help='such as "a photo of {}" (default: the label)')
    command.add_argument("--json", action="store_true", help="print JSON")

    command = commands.add_parser("train", help="train the built-in model again")
    command.set_defaults(command=train)
    command.add_argument("name", choices=["shapes"])
    command.add_argument("--out", default="shapes.safetensors", metavar="FILE", help="(default: %(default)s)")
    command.add_argument("--steps", type=_natural, help="fewer for a try")
    command.add_argument("--seed", type=_natural, default=0, help="(default: %(default)s)")
    command.add_argument("--resume", action="store_true", help="go on where a stopped training left off")

    command = commands.add_parser("info", help="what a model is made of")
    command.set_defaults(command=info)
    command.add_argument("model", metavar="MODEL", help=MODEL)
    command.add_argument("--activation", choices=ACTIVATIONS, help=ACTIVATION)
    command.add_argument("--json", action="store_true", help="print JSON")

    command = commands.add_parser("convert", help="a model from one form to another")
    command.set_defaults(command=convert_model)
    command.add_argument("source", metavar="SRC", help=MODEL)
    command.add_argument(
        "destination", metavar="DST", help="a .safetensors file (miniclip), a .pt file (openai), or a new directory"
    )
    command.add_argument("--to", required=True, choices=checkpoints.WRITERS)
    command.add_argument("--dtype", choices=checkpoints.WRITTEN, help="the type to store (default: as they are)")
    command.add_argument("--image-size", type=_natural, nargs="+", metavar="N", help="a side, or height and width")
    command.add_argument("--activation", choices=ACTIVATIONS, help=ACTIVATION)

    command = commands.add_parser("download", help="fetch models before they are needed, and say where they lie")
    command.set_defaults(command=download)
    command.add_argument(
        "names", nargs="+", metavar="MODEL",
        help="a name, an id on Hugging Face's hub (owner/name), vocabulary, all for every name and the vocabulary, or "
        "a file that tests look at: " + ", ".join(weights.manifest()["test_files"]),
    )  # fmt: skip
    command.add_argument("--root", metavar="DIR", help="where to (default: the cache)")

    command = commands.add_parser("doctor", help="what this machine has: versions, BLAS, GPU, caches, vocabulary")
    command.set_defaults(command=doctor)

    learn.add_parser(commands)

    benches = commands.add_parser("bench", help="how fast it is here, and what has been recorded")
    benches = benches.add_subparsers(required=True, metavar="BENCH")
    for name, what, function in [
        ("kernels", "each kernel on this GPU, against its peers and the hardware's limits", bench_kernels),
        ("models", "whole encoders, against torch and transformers", bench_models),
    ]:
        command = benches.add_parser(name, help=what, description=f"Measure {what}: answers first, then times.")
        command.set_defaults(command=function)
        command.add_argument("--only", metavar="NAME", help="one kernel or model, such as attention or ViT-B/32")
        command.add_argument("--quick", action="store_true", help="take fewer samples")
        command.add_argument("--seconds", type=_natural, metavar="N", help="begin no case after so many")
        command.add_argument("--out", metavar="DIR", help="where records go (default: kernels/bench/results)")
        if name == "models":
            command.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
            continue
        instead = command.add_mutually_exclusive_group()
        instead.add_argument("--ladder", action="store_true", help="the versions of each kernel, in the place of peers")
        instead.add_argument(
            "--autotune", nargs="?", const=None, default=False, metavar="FILE",
            help="find the fastest tiles and add them to FILE (default: in the cache); --seconds is 240 if not given",
        )  # fmt: skip

    command = benches.add_parser(
        "cpu", help="files to features on this processor, against transformers, ONNX Runtime and official code",
        description="Measure this processor: answers first, then times, in turns with the peers that are installed. It "
        "takes about ten minutes, in which nothing else should run.",
    )  # fmt: skip
    command.set_defaults(command=bench_cpu)
    command.add_argument("--only", metavar="NAME", help="one case, such as tokenize or preprocess")
    command.add_argument("--quick", action="store_true", help="take fewer samples")
    command.add_argument("--seconds", type=_natural, metavar="N", help="begin no case after so many")
    command.add_argument("--out", metavar="DIR", help="where records go (default: kernels/bench/results/cpu)")
    command.add_argument("--json", action="store_true", help="print the records as JSON at the end, and nothing else")

    command = benches.add_parser("report", help="what has been recorded, newest of each")
    command.set_defaults(command=bench_report)
    command.add_argument("--cpu", action="store_true", help="what bench cpu recorded, and not kernels and models")
    command.add_argument("--results", metavar="DIR", help="where records are (default: kernels/bench/results[/cpu])")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--json", action="store_true", help="print JSON")
    instead.add_argument(
        "--write", action="store_true",
        help="put tables and pictures into kernels/README.md, or with --cpu into docs/cpu.md and README.md",
    )  # fmt: skip
    return parser


def _natural(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number 0, 1, 2, ...")
    return int(text)


def classify(options):
    model, preprocess = api.load(options.model, backend=options.backend, activation=options.activation)
    if preprocess is None:
        raise InputError(f"{options.model} has no image tower")
    classes = zero_shot.class_embeddings(model, options.labels, [options.template])  # (n, E)
    results = []
    for start in range(0, len(options.pictures), BATCH):
        pictures = options.pictures[start : start + BATCH]
        rows = model.ops.to_numpy(zero_shot.probabilities(model, preprocess(pictures), classes))  # (B, n)
        for picture, row in zip(pictures, rows):
            ranked = sorted(zip(options.labels, row.tolist()), key=lambda pair: -pair[1])
            results.append({"image": picture, "labels": [{"label": t, "probability": p} for t, p in ranked]})
    if options.json:
        print(json.dumps(results, ensure_ascii=False, indent=2))
        return
    width = max(map(len, options.labels))
    for result in results:
        print(result["image"])
        for entry in result["labels"]:
            bar = "█" * round(entry["probability"] * BAR)
            print(f"  {entry['label']:<{width}}  {entry['probability']:7.2%}  {bar}".rstrip())


def train(options):
    try:
        from miniclip import train as training  # imports torch, which only this command needs
    except ImportError as error:
        raise InputError(
            f"training needs {error.name}: in the checkout, pip install -c constraints.txt -e '.[train]'"
        ) from error

    recipe = training.Recipe(seed=options.seed)
    if options.steps is not None:
        recipe = dataclasses.replace(recipe, steps=options.steps)
    training.train_shapes(options.out, recipe, resume=options.resume)
    print(f"written to {options.out}\n")
    print(evaluation.table(evaluation.evaluate(*api.load(options.out))))


def info(options):
    config, _, _ = checkpoints.load(api.find(options.model), activation=options.activation)
    shapes = params.flatten(config.shapes())
    counts = {
        tower: sum(math.prod(shape) for shape in params.flatten(branch).values())
        for tower, branch in config.shapes().items()
    }
    if options.json:
        print(json.dumps({"config": config.to_dict(), "parameters": counts, "shapes": shapes}, indent=2))
        return
    for name, part in config.to_dict().items():
        print(f"{name}: " + (", ".join(f"{k} {v}" for k, v in part.items()) if isinstance(part, dict) else f"{part}"))
    counts["all"] = sum(counts.values())
    print("parameters: " + ", ".join(f"{tower} {n:,}" for tower, n in counts.items()))
    width = max(map(len, shapes))
    for name, shape in shapes.items():
        print(f"  {name:<{width}}  {shape}")


def convert_model(options):
    size = options.image_size
    lacking = convert(
        api.find(options.source),
        options.destination,
        options.to,
        dtype=options.dtype,
        image_size=size and (size[0] if len(size) == 1 else tuple(size)),
        activation=options.activation,
    )
    print(f"written to {options.destination}")
    if options.to == "hf" and lacking:
        print(f"without a vocabulary: {lacking}", file=sys.stderr)


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


def doctor(options):
    for name, finding in report().items():
        print(f"{name + ':':<13} {finding}")


def bench_kernels(options):
    kernels = _bench("kernels")
    shared = {name: getattr(options, name) for name in ("only", "quick", "seconds", "out", "ladder")}
    kernels.run(**shared, tune=options.autotune is not False, tuned_path=options.autotune or None)


def bench_models(options):
    names = ("only", "quick", "seconds", "out", "device")
    _bench("models").run(**{name: getattr(options, name) for name in names})


def bench_cpu(options):
    from miniclip.kernels.bench import cpu

    shared = {name: getattr(options, name) for name in ("only", "quick", "seconds", "out")}
    cpu.run(**shared, as_json=options.json)


def _bench(name):
    """A module of miniclip.kernels.bench: they import torch and triton, which only their commands need."""
    try:
        return importlib.import_module(f"miniclip.kernels.bench.{name}")
    except ImportError as error:
        raise InputError(
            f"bench {name} needs {error.name}: in the checkout, pip install -c constraints.txt -e '.[gpu]'"
        ) from error


def bench_report(options):
    from miniclip.kernels.bench import records, report, report_cpu

    tables = report_cpu if options.cpu else report
    found = records.read(options.results or (records.CPU if options.cpu else None))
    if options.json:
        print(json.dumps([records.reported(record) for record in found], indent=1))
    elif not options.write:
        print(tables.section(found))
    elif not tables.write(found, options.results):
        print(
            "no pictures are drawn without matplotlib: in the checkout, pip install -e '.[tutorials]'", file=sys.stderr
        )
