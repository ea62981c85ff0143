"""`miniclip bench`: measure speed on this machine, and show recorded results."""

import importlib
import json
import sys

from miniclip.cli.arguments import natural
from miniclip.errors import InputError
from miniclip.runtime.installation import checkout, install


def add_arguments(command):
    benches = command.add_subparsers(required=True, metavar="BENCH")
    for name, subject, function in [
        ("kernels", "each kernel on this GPU against its peers and the hardware's limits", bench_kernels),
        ("models", "whole encoders against torch and transformers", bench_models),
    ]:
        description = f"Measure {subject}. Every answer is checked before it is timed."
        command = benches.add_parser(name, help=f"measure {subject}", description=description)
        command.set_defaults(command=function)
        command.add_argument("--only", metavar="NAME", help="only this kernel or model, such as attention or ViT-B/32")
        _add_common(command, "kernels/bench/results")
        if name == "models":
            command.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
            continue
        instead = command.add_mutually_exclusive_group()
        instead.add_argument("--ladder", action="store_true", help="measure each kernel's versions, not its peers")
        instead.add_argument(
            "--autotune", nargs="?", const=None, default=False, metavar="FILE",
            help="find the fastest tiles and add them to FILE (default: in the cache), for 240 seconds or --seconds",
        )  # fmt: skip
        _add_mine(command, instead)

    command = benches.add_parser(
        "cpu", help="measure features, search and training on this processor against transformers, faiss and others",
        description="Measure files to features, search and training on this processor, in turns with the peers that "
        "are installed. Every answer is checked before it is timed. This takes about 20 minutes and 12 GB of memory: "
        "run nothing else meanwhile. Rows that were disturbed are marked. Ctrl-C ends it; what is finished is kept.",
    )  # fmt: skip
    command.set_defaults(command=bench_cpu)
    command.add_argument(
        "--only", metavar="NAMES", help="only these cases, such as search, or encode_image,tokenize, or int8"
    )
    _add_common(command, "miniclip/bench/results")
    command.add_argument("--json", action="store_true", help="print only the records, as JSON, at the end")

    command = benches.add_parser(
        "export", help="write an operation as a task for GPU MODE's competitions or KernelBench",
        description="Write an operation as a task for GPU MODE's kernel competitions or KernelBench: what it computes "
        "in torch, how answers are checked, CLIP's shapes, and our kernel in one file.",
    )  # fmt: skip
    command.set_defaults(command=bench_export)
    command.add_argument("operation", metavar="OPERATION", help="such as attention or layer_norm")
    command.add_argument("--to", metavar="DIR", help="folder for the files (default: OPERATION-FORM)")
    command.add_argument("--form", choices=["gpumode", "kernelbench"], default="gpumode", help="(default: %(default)s)")
    command.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16",
        help="of GPU MODE's form (default: %(default)s); KernelBench's runner chooses it itself",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="write over files that are there")

    command = benches.add_parser("report", help="show the newest records", description="Show the newest records.")
    command.set_defaults(command=bench_report)
    command.add_argument("--cpu", action="store_true", help="records of bench cpu, instead of bench kernels and models")
    command.add_argument(
        "--results", metavar="DIR", help="directory of records (default: kernels/bench/results, miniclip/bench/results)"
    )
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--json", action="store_true", help="print JSON")
    instead.add_argument(
        "--write",
        action="store_true",
        help="write them into kernels/README.md, with --cpu into docs/cpu.md and README.md",
    )


def _add_mine(command, instead):
    instead.add_argument(
        "--mine", metavar="FILE.py:FUNCTION",
        help="check your function as ours are checked, in all ways that this machine can; then time it beside ours, or "
        "without a GPU count what it is compiled to. It takes and gives what the operation does in "
        "miniclip/ops/numpy_ops.py, on tensors. Your file runs in this process. Without --out nothing is recorded",
    )  # fmt: skip
    command.add_argument("--as", dest="operation", metavar="OPERATION", help="what --mine computes, such as attention")
    command.add_argument("--emulate", action="store_true", help="run --mine in the emulator, though there is a GPU")


def _add_common(command, results):
    command.add_argument("--quick", action="store_true", help="take fewer samples")
    command.add_argument("--seconds", type=natural, metavar="N", help="start no new case after N seconds")
    command.add_argument("--out", metavar="DIR", help=f"directory for records (default: {results}, or the cache)")


def bench_kernels(options):
    if options.mine:
        if not options.operation or options.only:
            raise InputError("--mine needs --as OPERATION, such as --as attention, and no --only")
        names = ("emulate", "quick", "seconds", "out")
        _bench("mine").run(options.mine, options.operation, **{name: getattr(options, name) for name in names})
        return
    if options.operation or options.emulate:
        raise InputError("--as and --emulate are for a kernel of yours: pass it with --mine FILE.py:FUNCTION")
    kernels = _bench("kernels")
    shared = {name: getattr(options, name) for name in ("only", "quick", "seconds", "out", "ladder")}
    kernels.run(**shared, tune=options.autotune is not False, tuned_path=options.autotune or None)


def bench_export(options):
    names = ("to", "form", "dtype", "overwrite")
    _bench("export").run(options.operation, **{name: getattr(options, name) for name in names})


def bench_models(options):
    names = ("only", "quick", "seconds", "out", "device")
    _bench("models").run(**{name: getattr(options, name) for name in names})


def bench_cpu(options):
    from miniclip.bench import cpu

    shared = {name: getattr(options, name) for name in ("only", "quick", "seconds", "out")}
    cpu.run(**shared, as_json=options.json)


def _bench(name):
    """A module of miniclip.kernels.bench, imported here because only its command needs torch and triton."""
    try:
        return importlib.import_module(f"miniclip.kernels.bench.{name}")
    except ImportError as error:
        raise InputError(f"bench {name} needs {error.name}: {install('gpu')}") from error


def bench_report(options):
    from miniclip.bench import records, report_cpu
    from miniclip.kernels.bench import report

    tables = report_cpu if options.cpu else report
    if options.write and not checkout():
        raise InputError(
            "--write changes pages of a checkout, and this miniclip was installed from a wheel: leave it out"
        )
    folders = [options.results] if options.results else dict.fromkeys([tables.RESULTS, records.own(tables.RESULTS)])
    found = records.read(*folders, missing_ok=not options.results, also=tables.ALSO)
    if options.json:
        print(json.dumps([records.reported(record) for record in found], indent=1))
    elif not options.write:
        print(tables.section(found))
    elif not tables.write(found, options.results):
        print(f"drawing pictures needs matplotlib: {install('tutorials')}", file=sys.stderr)
