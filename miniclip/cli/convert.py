"""`miniclip convert`: convert a model to another format."""

import sys

from miniclip.checkpoints.convert import DTYPES, WRITERS, convert
from miniclip.cli.arguments import MODEL, add_activation, add_adapter, add_image_size, image_size
from miniclip.fetch import hub, vocabulary


def add_arguments(command):
    command.set_defaults(command=convert_model)
    command.add_argument("source", metavar="SRC", help=MODEL)
    command.add_argument(
        "destination", metavar="DST",
        help="a .safetensors file (miniclip), a .pt file (openai), a .gguf file (gguf), or a new directory",
    )  # fmt: skip
    command.add_argument("--to", required=True, choices=WRITERS, help="the format to write; gguf is for clip.cpp")
    command.add_argument(
        "--dtype", choices=DTYPES, help="the dtype to store (default: unchanged); q8_0, 8 bits, is gguf's"
    )
    add_image_size(command)
    command.add_argument("--overwrite", action="store_true", help="replace the file DST if it exists")
    add_activation(command)
    add_adapter(command)
    command.add_argument(
        "--text", metavar="MODEL", help="a text tower that was trained for SRC's pictures, such as M-CLIP's: its texts"
    )


def convert_model(options):
    source, adapter = hub.find_adapted(options.source, options.adapter)
    lacking = convert(
        source,
        options.destination,
        options.to,
        dtype=options.dtype,
        image_size=image_size(options),
        activation=options.activation,
        adapter=adapter,
        text=None if options.text is None else hub.find(options.text),
        official=vocabulary.official_tokenizer_here,
        overwrite=options.overwrite,
    )
    print(f"written to {options.destination}")
    if options.to == "hf" and lacking:
        print(f"the vocabulary is not written: {lacking}", file=sys.stderr)
