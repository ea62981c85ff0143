#!/bin/sh
# Two photographs become one sample when their names contain dots.
#
# Package: webdataset 1.0.2.
# Expect:  "zoom 1.5x.jpg" and "zoom 1.7x.jpg" are two samples, each with its own caption, as
#          os.path.splitext would group them.
# Found:   a key ends at the FIRST dot of the file name. Both files have the key "zoom 1", so they
#          are merged into one sample with fields called "5x.jpg" and "7x.jpg". There is no warning.
#          The writer does not protect the reader: TarWriter accepts a "__key__" with a dot, and
#          the reader then returns another key and another field name.
# Seen:    [('zoom 1', ['5x.jpg', '5x.txt', '7x.jpg', '7x.txt'])]
#          written key 'cat.v2' with field 'txt', read key 'cat' with field 'v2.txt'
# Avoid:   replace dots in keys before a shard is written.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile webdataset==1.0.2 numpy==2.4.6
cd "$dir"
env/bin/python - <<'PYTHON'
import io, tarfile
import webdataset


def read(path):
    samples = webdataset.WebDataset(path, shardshuffle=False)
    return [(s["__key__"], sorted(k for k in s if not k.startswith("__"))) for s in samples]


with tarfile.open("photos.tar", "w") as tar:
    for name in ["zoom 1.5x.jpg", "zoom 1.5x.txt", "zoom 1.7x.jpg", "zoom 1.7x.txt"]:
        member = tarfile.TarInfo(name)
        member.size = len(name)
        tar.addfile(member, io.BytesIO(name.encode()))
merged = read("photos.tar")
print(merged)
assert merged == [("zoom 1", ["5x.jpg", "5x.txt", "7x.jpg", "7x.txt"])]

with webdataset.TarWriter("written.tar") as writer:
    writer.write({"__key__": "cat.v2", "txt": "a cat"})
[(key, fields)] = read("written.tar")
print(f"written key 'cat.v2' with field 'txt', read key {key!r} with field {fields[0]!r}")
assert (key, fields) == ("cat", ["v2.txt"])
PYTHON
