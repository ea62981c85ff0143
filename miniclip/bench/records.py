"""Records of measurements: one JSON object per line, one file per kind of device. Lines are only added, never changed.

A record has the name, shape and dtype of the case, the device and the versions, times {provider: median microseconds},
skipped {provider: why it has no time}, the ceilings of the same run, and the figures that follow (`figures`). Newer
records of processors also have `fastest`, the fastest of our backends, with its ratio, and `doubts`, the reasons why
the row cannot be trusted.
"""

import datetime
import importlib.metadata
import json
import math
import os
import re
import subprocess
from pathlib import Path

from miniclip._version import __version__
from miniclip.errors import InputError
from miniclip.runtime.caches import cache_directory
from miniclip.runtime.installation import checkout

OURS = "miniclip"
NUMBER = (int, float, type(None))
FIELDS = {  # and their types; others are for the reader of the file
    **dict.fromkeys(["name", "dtype", "device", "date", "ours", "unit"], str),
    **dict.fromkeys(["shape", "versions", "times", "skipped"], dict),
    **dict.fromkeys(["value", "share_of_limit", "ratio_to_best_peer"], NUMBER),
    "best_peer": (str, type(None)),
}
OPTIONAL = {"doubts": list, "vectors": (str, type(None)), "ratio_of_fastest": NUMBER}
REPORTED = ("name", "shape", "dtype", "device", "value", "unit", "share_of_limit", "best_peer", "ratio_to_best_peer")
CLOSE = 0.9999  # features with a smaller cosine are shown with it
ALSO_REPORTED = ("fastest", "ratio_of_fastest", "doubts")  # if a record has them
VECTORS = {"SapphireRapids": "AMX", "SkylakeX": "AVX-512", "Cooperlake": "AVX-512"}  # that kernels of OpenBLAS need


def figures(times, ours, limit=None):
    """{share_of_limit (0 to 1), best_peer, ratio_to_best_peer (the best peer's time / ours)}; unknown values are None.

    times  {provider: microseconds}
    ours   the name of our provider
    limit  the least time, in microseconds, that the work can take; None: unknown
    """
    peers = {name: time for name, time in times.items() if name != ours} if ours in times else {}
    best = min(peers, key=peers.get, default=None)
    return {
        "share_of_limit": limit / times[ours] if limit and ours in times else None,
        "best_peer": best,
        "ratio_to_best_peer": peers[best] / times[ours] if peers else None,
    }


def is_ours(name):
    """Whether a provider is a backend of miniclip: neither a peer, nor a variant such as "miniclip, one core"."""
    return name == OURS or name.startswith(f"{OURS} on ")


def fastest(times):
    """The name of our fastest backend; None if none has a time."""
    return min(filter(is_ours, times), key=times.get, default=None)


def kind(record):
    """(device, vectors): the processor. Some of one name differ; older records say so only by OpenBLAS' kernel.

    None: unknown. Its kernels for AVX2 say nothing, because it may overlook AVX-512.
    """
    return record["device"], record.get("vectors") or VECTORS.get(record.get("kernel"))


def versions():
    """{name: version} of everything that affects a measurement; None if it is not installed."""
    import torch

    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        driver = None
    packages = package_versions(("torch", "triton", "transformers"))
    return {**packages, "driver": driver, "cuda": torch.version.cuda}


def package_versions(names):
    """{name: version} of packages and of miniclip itself; None if a package is not installed."""
    return {"miniclip": __version__, **{name: _version(name) for name in names}}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def stamp(record):
    """The date and the versions of a record, as text."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return f"{record['date']}: {versions}"


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


# ---------------------------------------------------------------------------------------------- files


def own(shipped):
    """Where this machine's records go: beside miniclip's own in a checkout, into the cache if there is none."""
    return shipped if checkout() else cache_directory() / "bench" / shipped.parents[1].name


def writable(directory):
    """The directory for records, created if needed. Raises InputError if it cannot be written to."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: cannot be created: {error.strerror}; pass another with --out") from error
    if not os.access(directory, os.W_OK):
        raise InputError(f"{directory}: cannot be written to; pass another directory with --out")
    return directory


def slug(device):
    """A device's name for file names: "NVIDIA H200" -> "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def append(directory, record):
    """Add a record to its device's file: one write of one whole line, so that two runs can write at the same time."""
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    path = Path(directory) / f"{slug(' '.join(filter(None, kind(record))))}.jsonl"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(file, line)
        finally:
            os.close(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def read(*directories, missing_ok=False, also=()):
    """The newest record of each case and device, from all files in the directories; each has the fields `also`.

    A record that cannot be trusted never replaces one that can. Raises InputError for a missing
    directory, unless `missing_ok`, and for a line that is not such a record.
    """
    for directory in directories:
        if not missing_ok and not Path(directory).is_dir():
            raise InputError(f"there is no directory {directory} with records: measure first, or pass --results")
    newest = {}
    for path in sorted(path for directory in directories for path in Path(directory).glob("*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, 1):
            try:
                record = _checked(json.loads(line), also)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise InputError(f"{path}, line {number}, is not a record ({error!r}): delete the line") from error
            key = (record["name"], json.dumps(record["shape"], sort_keys=True), record["dtype"], kind(record))
            if key not in newest or _rank(record) >= _rank(newest[key]):
                newest[key] = record
    return list(newest.values())


def _rank(record):
    return not record.get("doubts"), record["date"]


def _checked(record, also):
    """The record; KeyError, TypeError or ValueError if it has not the fields that reports use."""
    for name, kind in {**FIELDS, **dict.fromkeys(also, object)}.items():
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is {record[name]!r}")
    for name, kind in OPTIONAL.items():
        if name in record and not isinstance(record[name], kind):
            raise TypeError(f"{name} is {record[name]!r}")
    for numbers in (
        record["times"],
        record.get("cosines", {}),
        {"value": record["value"] or 0, "share": record["share_of_limit"] or 0},
    ):
        if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers.values()):
            raise TypeError(f"{numbers} has more than numbers")
    if record["value"] is not None and not record["times"][record["ours"]] > 0:
        raise ValueError(f"{record['ours']} has a time of 0")
    if record["best_peer"] is not None and record["ratio_to_best_peer"] is None:
        raise ValueError("best_peer has no ratio")
    if not all(isinstance(size, (int, float)) for size in record["shape"].values()):
        raise TypeError(f"shape is {record['shape']!r}")
    return record


def reported(record):
    """The fields of a record that `miniclip bench report --json` prints."""
    return {name: record[name] for name in (*REPORTED, *(name for name in ALSO_REPORTED if name in record))}


# -------------------------------------------------------------------------------- output of a run


def summary(record):
    """A record as a few lines of readable text."""
    shape = " ".join(f"{name}={value}" for name, value in record["shape"].items())
    lines = [f"{record['name']}  {shape}  {record['dtype']}"]
    width = max([20, *(len(name) for name in [*record["times"], *record["skipped"]])])
    for name, time in record["times"].items():
        value = record["value"] * record["times"][record["ours"]] / time
        share = record["share_of_limit"] and record["share_of_limit"] * record["times"][record["ours"]] / time
        launched = "  (with launches)" if name in record.get("launched", ()) else ""
        cosine = record.get("cosines", {}).get(name, 1)
        lines.append(
            f"  {name:<{width}} {time:12,.1f} µs {value:12,.1f} {record['unit']}"
            + (f"  {share:6.1%} of the limit" if share else "")
            + (f"  cosine {cosine:.4f}" if cosine < CLOSE else "")
            + launched
        )
    lines += [f"  {name:<{width}} not measured: {reason}" for name, reason in record["skipped"].items()]
    if record["ratio_to_best_peer"]:
        lines.append(f"  {record['ratio_to_best_peer']:.2f}x the speed of the best peer, {record['best_peer']}")
    if record.get("ratio_of_fastest") and record["fastest"] != record["ours"]:
        lines.append(f"  {record['fastest']}: {record['ratio_of_fastest']:.2f}x")
    lines += [f"  not to be trusted: {doubt}" for doubt in record.get("doubts", ())]
    return "\n".join(lines)
