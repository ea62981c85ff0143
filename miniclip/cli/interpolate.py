"""`miniclip interpolate`: mix a model with its fine-tuned version (WiSE-FT)."""

import sys

from miniclip import checkpoints
from miniclip.checkpoints import convert
from miniclip.checkpoints.interpolate import check_alpha, interpolate
from miniclip.cli.arguments import MODEL, add_activation
from miniclip.errors import InputError
from miniclip.fetch import hub, vocabulary

HELD = "{alpha}"  # in the name of OUT, where each alpha's value is written


def add_arguments(command):
    command.set_defaults(command=mix)
    command.add_argument("first", metavar="A", help=f"the model before fine-tuning: {MODEL}")
    command.add_argument("second", metavar="B", help="the same model after it: the same, or an adapter's directory")
    command.add_argument(
        "--alpha", type=float, nargs="+", required=True, metavar="X",
        help="the share of B, 0 to 1; the paper's is 0.5",
    )  # fmt: skip
    command.add_argument(
        "-o", "--out", required=True, metavar="OUT",
        help=f"what to write; for several --alpha its name contains {HELD}",
    )  # fmt: skip
    command.add_argument(
        "--to", default="miniclip", choices=convert.WRITERS, help="the format to write (default: miniclip)"
    )
    command.add_argument("--dtype", choices=convert.DTYPES, help="the dtype to store (default: the wider of both)")
    command.add_argument("--overwrite", action="store_true", help="replace the file OUT if it exists")
    add_activation(command)


def mix(options):
    if len(options.alpha) > 1 and HELD not in options.out:
        raise InputError(f"there are {len(options.alpha)} values of --alpha, but one --out: write {HELD} into its name")
    outs = {options.out.replace(HELD, f"{alpha:g}"): alpha for alpha in options.alpha}
    for out, alpha in outs.items():  # all of them before the first file is written
        check_alpha(alpha)
        convert.check(out, options.to, options.dtype, options.overwrite)
    models = [_load(name, options.activation) for name in (options.first, options.second)]
    for out, alpha in outs.items():
        try:
            mixed = interpolate(*models, alpha)
        except InputError as error:
            raise InputError(f"{options.first} and {options.second}: {error}") from error
        how = {"dtype": options.dtype, "official": vocabulary.official_tokenizer_here}
        lacking = convert.write(out, options.to, *mixed, source=options.first, **how)
        print(f"written to {out}")
        if options.to == "hf" and lacking:
            print(f"the vocabulary is not written: {lacking}", file=sys.stderr)


def _load(name, activation):
    path, adapter = hub.find_adapted(name)
    return checkpoints.load(path, activation=activation, adapter=adapter)
