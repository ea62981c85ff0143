"""`miniclip export`: write a model as ONNX files."""

import sys
from pathlib import Path

from miniclip.cli.arguments import MODEL, add_activation, add_adapter, add_image_size, image_size
from miniclip.export import export
from miniclip.fetch import hub, vocabulary


def add_arguments(command):
    command.set_defaults(command=export_model)
    command.add_argument("source", metavar="MODEL", help=MODEL)
    command.add_argument("destination", metavar="DIR", help="a new directory")
    kinds = command.add_mutually_exclusive_group()
    kinds.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32",
        help="the dtype of weights and of what is computed (default: float32)",
    )  # fmt: skip
    kinds.add_argument("--int8", action="store_true", help="weights and products in 8 bits, the rest in float32")
    add_image_size(command)
    add_activation(command)
    add_adapter(command)


def export_model(options):
    source, adapter = hub.find_adapted(options.source, options.adapter)
    missing = export(
        source,
        options.destination,
        dtype="int8" if options.int8 else options.dtype,
        image_size=image_size(options),
        activation=options.activation,
        adapter=adapter,
        official=vocabulary.official_tokenizer_here,
    )
    folder = Path(options.destination)
    for path in sorted(folder.rglob("*.onnx*")):
        print(f"{path.relative_to(folder).as_posix()}  {path.stat().st_size / 1e6:,.1f} MB")
    print(f"written to {folder}")
    for line in missing:
        print(line, file=sys.stderr)
