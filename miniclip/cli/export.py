"""`miniclip export`: write a model as ONNX files."""

import sys
from pathlib import Path

from miniclip.cli.arguments import MODEL, add_activation, add_adapter, add_image_size, image_size
from miniclip.export import DTYPES, export
from miniclip.fetch import hub, vocabulary


def add_arguments(command):
    command.set_defaults(command=export_model)
    command.add_argument("source", metavar="MODEL", help=MODEL)
    command.add_argument("destination", metavar="DIR", help="a new directory")
    kinds = command.add_mutually_exclusive_group()
    kinds.add_argument(
        "--dtype", choices=DTYPES, default="float32",
        help="of weights and of what is computed; int8: of weights and products alone (default: float32)",
    )  # fmt: skip
    kinds.add_argument("--int8", dest="dtype", action="store_const", const="int8", help="the same as --dtype int8")
    add_image_size(command)
    add_activation(command)
    add_adapter(command)


def export_model(options):
    source, adapter = hub.find_adapted(options.source, options.adapter)
    missing = export(
        source,
        options.destination,
        dtype=options.dtype,
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
