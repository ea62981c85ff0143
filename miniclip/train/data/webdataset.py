"""Pairs of WebDataset's tar shards: files of one sample have one key, "000042.jpg" and "000042.txt".

The package `webdataset` says which shards are meant and which files are one sample; it needs to be installed. Its own
streams forget where a sample is. Here each shard's headers and captions are read once, and then any picture by its
place in the file, so that a training can begin at any step, with any number of processes, in an order without a buffer.
"""

import json
import os
import re
import tarfile
from functools import partial

from miniclip.errors import InputError
from miniclip.runtime.files import open_regular
from miniclip.runtime.installation import install
from miniclip.train.data.pairs import CAPTIONS, pair_up, skip, texts_of

PICTURES = ("jpg", "png", "jpeg", "webp")  # the fields that OpenCLIP looks for, in its order
META = re.compile(r"__[^/]*__($|/)")  # names that webdataset leaves out: notes about the shard
BLOCK = 512  # bytes: all parts of a tar begin at a multiple of it; one of zeros marks the end
REST = 1 << 16  # bytes that are looked at after the end; programs pad a tar with zeros to a multiple of 10,240


def shards_of(source):
    """The paths that a text with braces, "data/{00000..00099}.tar", or a list of paths means, by webdataset's rules."""
    _package(source)
    from webdataset import shardlists

    try:
        paths = shardlists.expand_urls(source) if isinstance(source, str) else [os.fspath(path) for path in source]
    except (ValueError, AssertionError, TypeError) as error:  # braces that do not match; a variable that is not set
        raise InputError(f"{source}: cannot be read as a list of shards: {error}") from error
    if not paths:
        raise InputError("the list of tar shards is empty")
    for path in paths:
        if re.match(r"pipe:|\w+://", path):
            raise InputError(f"{path}: shards are read from this machine's disk: copy them there first")
    return paths


def _package(source):
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise InputError(f"{source}: tar shards need {error.name}: {install('data')}") from error


def read(source, columns=None):
    """Pairs of shards; the caption is in a sample's .txt, else in its .json.

    columns  (field of the picture, field of the caption or key in the .json) if they have other names; None instead of
             the first: a picture in any of the usual formats
    """
    shards, skipped = shards_of(source), {}
    found = (sample for shard in shards for sample in _samples(shard, columns, skipped))
    name = source if isinstance(source, str) else f"{len(shards)} shards, {shards[0]} and so on"
    return pair_up(name, found, _read, skipped)


def _samples(shard, columns, skipped):
    """(name, captions, place of the picture) of each sample; skips those that lack a file."""
    from webdataset.tariterators import group_by_keys

    def note(error):  # webdataset's only complaint: two files of a sample have the same name
        name, _, _ = str(error.args[0]).partition(": duplicate file name")
        skip(skipped, f"{shard}: {name}", "another file of this sample has this name")
        return True

    pictures = PICTURES if columns is None or columns[0] is None else columns[:1]
    texts = {"txt", "json"} if columns is None else {columns[1], "json"}
    for sample in group_by_keys(_members(shard, texts, skipped), handler=note):
        name = f"{shard}: {sample['__key__']}"
        fields = [field for field in sample if not field.startswith("__")]
        try:
            field = next((field for field in pictures if field in sample), None)
            if field is None:
                raise InputError(f"has no picture, .{' or .'.join(pictures)}, but only {_listed(fields)}")
            yield name, _captions(sample, columns and columns[1], fields), sample[field]
        except InputError as error:
            skip(skipped, name, str(error))


def _listed(fields):
    return ", ".join(f".{field}" for field in fields) + " (a name's ending begins at its first dot)"


def _captions(sample, chosen, fields):
    """The captions of a sample: its .txt, else what its .json has under a usual key; or what is `chosen` of either."""
    field = chosen if chosen in sample else "txt" if chosen is None and "txt" in sample else "json"
    if field not in sample:
        raise InputError(f"has no caption, .{chosen or 'txt'} or .json, but only {_listed(fields)}")
    try:
        text = sample[field].decode("utf-8-sig")
        if field != "json":
            return [text]
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("expected an object, {...}")
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise InputError(f"its .{field} cannot be read: {error}") from error
    keys = [key for key in values if key == chosen or (chosen is None and key in CAPTIONS)]
    if len(keys) != 1:
        raise InputError(f"its .json has {'several captions' if keys else 'no caption'}: it has {', '.join(values)}")
    return texts_of(values[keys[0]])


def _members(shard, texts, skipped):
    """What webdataset groups: {fname, data, __url__} of each file in a shard; `data` is its place, (path, from, bytes).

    Of files with an ending in `texts` it is the content. If a shard is damaged, what comes before is used.
    """
    from webdataset.tariterators import base_plus_ext

    note = partial(skip, skipped)
    try:
        with open_regular(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            size = os.fstat(file.fileno()).st_size
            while (member := tar.next()) is not None:
                tar.members.clear()  # else it would keep all of them
                if not member.isreg() or META.match(member.name):
                    continue
                if member.offset_data + member.size > size:
                    note(shard, f"is cut off inside {member.name}: what would come after it is lost")
                    return
                key, ending = base_plus_ext(member.name)
                if key is None:
                    note(f"{shard}: {member.name}", "has no name of the form KEY.ENDING")
                    continue
                content = (shard, member.offset_data, member.size)
                if ending.lower() in texts:
                    file.seek(member.offset_data)
                    content = file.read(member.size)
                yield {"fname": member.name, "data": content, "__url__": shard}
            if tar.offset == 0:
                note(shard, "is empty")
            file.seek(tar.offset)
            rest = file.read(REST)  # zeros, but Python's tarfile says nothing about anything else
            if not rest:
                note(shard, "has no end mark, so it may be cut off: what would come after it is lost")
            elif any(rest[:BLOCK]):
                note(shard, f"is damaged at byte {tar.offset:,}: what would come after it is lost")
            elif any(rest):
                note(shard, f"has more after an end mark at byte {tar.offset:,}, as if tars were joined: it is lost")
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:  # of sizes that damage made up
        note(shard, f"cannot be read as a tar (unpack it if it is compressed): {error}")
    except OSError as error:
        note(shard, f"cannot be read: {error.strerror or error}")


def _read(place):
    path, start, size = place
    with open_regular(path) as file:
        file.seek(start)
        return file.read(size)
