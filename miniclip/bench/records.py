"""What was measured: one JSON object a line, one file a device, added to and never rewritten.

Each has name, shape and dtype of what was measured, the device and the versions, times {provider: median microseconds},
skipped {provider: why it has none}, the ceilings of the same run, and what follows from them (`figures`).
"""

import datetime
import importlib.metadata
import json
import os
import re
import subprocess
from pathlib import Path

from miniclip._version import __version__
from miniclip.errors import InputError

REPORTED = ("name", "shape", "dtype", "device", "value", "unit", "share_of_limit", "best_peer", "ratio_to_best_peer")


def figures(times, ours, limit=None):
    """What the times say: {provider: microseconds}, the name of ours, the least the work can take (None: unknown).

    -> share_of_limit (0 to 1), best_peer, ratio_to_best_peer (its time / ours); None where there is nothing to say.
    """
    peers = {name: time for name, time in times.items() if name != ours} if ours in times else {}
    best = min(peers, key=peers.get, default=None)
    return {
        "share_of_limit": limit / times[ours] if limit and ours in times else None,
        "best_peer": best,
        "ratio_to_best_peer": peers[best] / times[ours] if peers else None,
    }


def versions():
    """Of all that has a part in a measurement; None for what is not there."""
    import torch

    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        driver = None
    packages = package_versions(("torch", "triton", "transformers"))
    return {**packages, "driver": driver, "cuda": torch.version.cuda}


def package_versions(names):
    """{name: version} of packages and of miniclip itself; None for what is not there."""
    return {"miniclip": __version__, **{name: _version(name) for name in names}}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def stamp(record):
    """When it was measured, and with which versions of what."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    return f"{record['date']}: {versions}"


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


# ---------------------------------------------------------------------------------------------- files


def writable(directory):
    """The directory for records, made if it is not there. Raises InputError if it cannot be written."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: cannot be made: {error.strerror}; pass --out another directory") from error
    if not os.access(directory, os.W_OK):
        raise InputError(f"{directory} cannot be written to: pass --out another directory")
    return directory


def slug(device):
    """A device's name for file names: "NVIDIA H200" -> "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def append(directory, record):
    """Add a record to its device's file, in one write of one whole line, so that two runs at a time do no harm."""
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    path = Path(directory) / f"{slug(record['device'])}.jsonl"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(file, line)
        finally:
            os.close(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def read(directory, *, missing_ok=False):
    """The newest record of each thing measured, from all files in a directory. Raises InputError."""
    if not missing_ok and not Path(directory).is_dir():
        raise InputError(f"there is no directory {directory} with records")
    newest = {}
    for path in sorted(Path(directory).glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                record = json.loads(line)
                key = (record["name"], json.dumps(record["shape"], sort_keys=True), record["dtype"], record["device"])
                if key not in newest or record["date"] >= newest[key]["date"]:
                    newest[key] = record
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}, is not a record ({error!r}): delete it") from error
    return list(newest.values())


def reported(record):
    """As much of a record as `miniclip bench report --json` prints."""
    return {name: record[name] for name in REPORTED}


# --------------------------------------------------------------------------------- what a run prints


def told(record):
    """A record in a few lines, for people."""
    shape = " ".join(f"{name}={value}" for name, value in record["shape"].items())
    lines = [f"{record['name']}  {shape}  {record['dtype']}"]
    width = max([20, *(len(name) for name in [*record["times"], *record["skipped"]])])
    for name, time in record["times"].items():
        value = record["value"] * record["times"][record["ours"]] / time
        share = record["share_of_limit"] and record["share_of_limit"] * record["times"][record["ours"]] / time
        launched = "  (with launches)" if name in record.get("launched", ()) else ""
        lines.append(
            f"  {name:<{width}} {time:12,.1f} µs {value:12,.1f} {record['unit']}"
            + (f"  {share:6.1%} of the limit" if share else "")
            + launched
        )
    lines += [f"  {name:<{width}} not measured: {reason}" for name, reason in record["skipped"].items()]
    if record["ratio_to_best_peer"]:
        lines.append(f"  {record['ratio_to_best_peer']:.2f}x the speed of the best peer, {record['best_peer']}")
    return "\n".join(lines)
