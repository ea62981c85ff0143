"""The command line, `miniclip COMMAND`: a module here for each command, imported only when it is asked for.

Exit codes: 0 done, 1 an input cannot be used (one line on stderr says why), 2 the command itself is wrong.
`learn check` gives 1 if not everything is done, and 2 for both of the others.
"""

import argparse
import importlib
import os
import sys

from miniclip._version import __version__
from miniclip.errors import InputError

# name: (what it does, the module that adds its arguments)
COMMANDS = {
    "classify": ("which of some texts fits a picture best", "miniclip.cli.classify"),
    "train": ("train the built-in model again", "miniclip.cli.train"),
    "info": ("what a model is made of", "miniclip.cli.info"),
    "convert": ("a model from one form to another", "miniclip.cli.convert"),
    "download": ("fetch models before they are needed, and say where they are", "miniclip.cli.download"),
    "doctor": ("what this machine has: versions, BLAS, GPU, caches, vocabulary", "miniclip.cli.doctor"),
    "learn": ("write CLIP's functions yourself, checked against the library's own laws", "miniclip.learn.commands"),
    "bench": ("how fast it is here, and what has been recorded", "miniclip.cli.bench"),
}


def main(arguments: list[str] | None = None, *, may_restart: bool = False) -> int:
    """Run one command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    if may_restart and arguments[0] != "doctor":  # doctor says how things are without that
        from miniclip.runtime import cpu

        cpu.restart_with_fast_kernel()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # bars and file names that the terminal cannot show
    try:
        code = options.command(options) or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"miniclip: {error}", file=sys.stderr)
        return getattr(options, "unusable", 1)  # for `learn check` 1 means something else
    except BrokenPipeError:  # the reader, for example `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def program() -> int:
    """The program `miniclip`: a process of its own, which may be started a second time."""
    return main(may_restart=True)


def _parser(arguments):
    """The parser of all commands. Only the one that is asked for gets its arguments: the others stay unimported."""
    parser = argparse.ArgumentParser(prog="miniclip", description="CLIP that can be read in an afternoon.")
    parser.add_argument("--version", action="version", version=f"miniclip {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (what, module) in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        if name in arguments:
            importlib.import_module(module).add_arguments(command)
    return parser
