#!/bin/sh
# A half-copied shard gives its picture the caption of the next shard.
#
# Package: webdataset 1.0.2 (tarfile of Python 3.11).
# Expect:  with handler=ignore_and_continue, a shard whose copy was interrupted gives its complete
#          samples, and the next shard begins with a new sample. What is lost is reported.
# Found:   after an error, the end of the shard is not marked. If the next shard begins with the same
#          key, as it does where each shard counts from 0, its caption is added to the picture of the
#          broken shard. Its own picture is dropped as a duplicate.
#          If the copy ends between two files, or one bit of a header is flipped, nothing is reported:
#          the rest of the shard is missing, without an error and without a call of the handler.
# Seen:    copied up to the first caption: sample 0 is 'picture of a' with 'caption of b'
#          one bit of a header flipped: 2 of 4 samples, 0 errors
#          copied up to the third picture: 2 of 4 samples, 0 errors
# Avoid:   give every sample of all shards its own key; compare the number of samples with the number
#          that was written.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile webdataset==1.0.2 numpy==2.4.6
cd "$dir"
env/bin/python -W ignore::ResourceWarning - <<'PYTHON'
import io, tarfile
import webdataset


def write(name, samples):
    with tarfile.open(f"{name}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for key in range(samples):
            for ending, content in (("jpg", f"picture of {name}"), ("txt", f"caption of {name}")):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
    return open(f"{name}.tar", "rb").read()


def read(*names):
    errors = []
    paths = [f"{name}.tar" for name in names]
    samples = webdataset.WebDataset(paths, shardshuffle=False, handler=lambda error: errors.append(error) or True)
    return [*samples], errors


FILE = 1024  # bytes of one small file in a tar: a header and its content
whole = write("a", 4)
write("b", 4)

open("half.tar", "wb").write(whole[: FILE + 516])  # with 4 bytes of the first caption
(first, *_), errors = read("half", "b")
picture, caption = first["jpg"].decode(), first["txt"].decode()
print(f"copied up to the first caption: sample {first['__key__']} is {picture!r} with {caption!r}")
assert (picture, caption) == ("picture of a", "caption of b") and errors

for what, content in (
    ("one bit of a header flipped", whole[: 4 * FILE] + bytes([whole[4 * FILE] ^ 1]) + whole[4 * FILE + 1 :]),
    ("copied up to the third picture", whole[: 4 * FILE]),
):
    open("damaged.tar", "wb").write(content)
    samples, errors = read("damaged")
    print(f"{what}: {len(samples)} of 4 samples, {len(errors)} errors")
    assert len(samples) == 2 and not errors
PYTHON
