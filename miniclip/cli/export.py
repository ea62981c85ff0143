"""`miniclip export`: write a model as ONNX files."""

import sys
from pathlib import Path

from miniclip.cli.arguments import MODEL, add_activation, add_adapter, natural
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
    command.add_argument(
        "--image-size", type=natural, nargs="+", metavar="N",
        help="interpolate positions for this picture size in pixels: one number for a square, or height and width",
    )  # fmt: skip
    add_activation(command)
    add_adapter(command)


def export_model(options):
    size = options.image_size
    source, adapter = hub.find_adapted(options.source, options.adapter)
    missing = export(
        source,
        options.destination,
        dtype="int8" if options.int8 else options.dtype,
        image_size=size and (size[0] if len(size) == 1 else tuple(size)),
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
