"""The command line, `miniclip COMMAND`: one module for each command, imported only when the command runs.

Exit codes: 0 done, 1 an input cannot be used (one line on stderr says why), 2 the command line is wrong.
`learn check` returns 1 if exercises are not done, and 2 for both kinds of error.
"""

import argparse
import errno
import importlib
import os
import re
import sys
import warnings

from miniclip._version import __version__
from miniclip.errors import InputError

# name: (help, the module that adds its arguments)
COMMANDS = {
    "classify": ("find the text that fits a picture best", "miniclip.cli.classify"),
    "embed": ("write features of many pictures or texts to a folder", "miniclip.cli.embed"),
    "search": ("find the pictures that fit a text or a picture best", "miniclip.cli.search"),
    "compare": ("show how similar pictures and texts are", "miniclip.cli.compare"),
    "explain": ("show which patches and words make a picture and a text fit", "miniclip.cli.explain"),
    "caption": ("write what is in a picture", "miniclip.cli.caption"),
    "play": ("open a page to draw pictures, type labels, and see what a model answers and why", "miniclip.cli.play"),
    "evaluate": ("measure a model on pictures with labels or captions", "miniclip.cli.evaluate"),
    "probe": ("train a linear classifier on a model's features", "miniclip.cli.probe"),
    "train": ("train on pictures with captions, or fine-tune a model", "miniclip.cli.train"),
    "info": ("show a model's configuration and parameters", "miniclip.cli.info"),
    "convert": ("convert a model to another format", "miniclip.cli.convert"),
    "export": ("write a model as ONNX files, for ONNX Runtime, OpenVINO and transformers.js", "miniclip.cli.export"),
    "interpolate": ("mix a model with its fine-tuned version (WiSE-FT)", "miniclip.cli.interpolate"),
    "download": ("download models in advance, and print their paths", "miniclip.cli.download"),
    "doctor": ("show what this machine has: versions, BLAS, GPU, caches, vocabulary", "miniclip.cli.doctor"),
    "learn": ("write CLIP's functions yourself, and have them checked", "miniclip.learn.commands"),
    "bench": ("measure speed on this machine, and show recorded results", "miniclip.cli.bench"),
}

FULL = (errno.ENOSPC, errno.EFBIG)  # what an OSError is about if a file cannot become longer

EXAMPLES = """examples:
  miniclip classify picture.png --labels "a red heart" "a blue circle"      with the built-in model
  miniclip classify photo.jpg --labels "a dog" "a cat" --model ViT-B/32     downloads 354 MB once
  miniclip info ViT-B/32
"""


def main(arguments: list[str] | None = None, *, may_restart: bool = False) -> int:
    """Run one command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for name in ("stdin", "stdout", "stderr"):  # one that is closed: the next file would get its number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    parser = _parser(arguments)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    options, rest = parser.parse_known_args(arguments)
    if rest and ("list_of_rest" not in options or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # argparse ends a list at an option: what comes after it belongs to the list that this names
        getattr(options, options.list_of_rest).extend(rest)
    if may_restart and arguments[0] != "doctor":  # doctor reports the machine as it is, without the restart
        from miniclip.runtime import cpu

        cpu.restart_with_fast_kernel()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # bars and file names that the terminal cannot show
    warnings.filterwarnings("ignore", module="PIL")  # of pictures that are large or odd, but can be read
    warnings.filterwarnings("ignore", "Glyph")  # of figures: what has no glyph is a box
    try:
        code = options.command(options) or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"miniclip: {_as_options(str(error), options)}", file=sys.stderr)
        return getattr(options, "unusable", 1)  # `learn check` sets 2, because its 1 means something else
    except BrokenPipeError:  # the reader, such as `head`, stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:  # files have names, and are InputErrors
            raise
        print(f"miniclip: standard output: cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def program() -> int:
    """The program `miniclip`. It may restart its own process, to run with a faster BLAS kernel."""
    try:
        return main(may_restart=True)
    except KeyboardInterrupt:  # while the command was imported
        return 130


def _parser(arguments):
    """The parser of the given command, with its arguments; if none is given, of all commands, without theirs."""
    parser = argparse.ArgumentParser(
        prog="miniclip",
        description="CLIP that can be read in an afternoon.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"miniclip {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    given = [name for name in COMMANDS if name in arguments]
    for name in given or COMMANDS:
        summary, module = COMMANDS[name]
        described = {"help": summary, "description": f"{summary[0].upper()}{summary[1:]}."}
        command = commands.add_parser(name, **described, allow_abbrev=False)  # --lr is not --lr-scale
        if given:
            importlib.import_module(module).add_arguments(command)
    return parser


def _as_options(message, options):
    """A message of the library with arguments as this command has them: "activation='gelu'" is "--activation gelu".

    Advice about an argument that the command does not have is left out.
    """
    message = message.removesuffix(" to miniclip.load")
    written = re.sub(
        r"\b([a-z]\w*)=(['\"]?)([\w./-]+)\2",
        lambda match: f"--{match[1].replace('_', '-')} {match[3]}" if hasattr(options, match[1]) else match[0],
        message,
    )
    return re.sub(r"( or|;|,) (pass|set) [a-z]\w*=(True|False|None|'\w+'|\d+)", "", written)
