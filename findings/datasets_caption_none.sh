#!/bin/sh
# The captions "None", "null" and "NA" are missing after an ImageFolder is loaded.
#
# Packages: datasets 5.2.0, pandas 3.1.1, pillow 13.0.0.
# Expect:   a caption in metadata.csv is the text that is written there.
# Found:    metadata.csv is read with pandas' defaults. "None", "null", "NA", "N/A" and "nan" become None. If
#           all captions look like numbers, the column holds integers, and "007" is 7; if all are "true" or
#           "false", it holds booleans. In metadata.jsonl the same captions stay texts.
# Seen:     csv:   None, None, None, 'a cat'
#           jsonl: 'None', 'null', 'NA', 'a cat'
#           csv of '007' and '42': 7, 42
# Matters:  fine-tuning on labels such as "None" fails, or trains without these captions.
# Avoid:    write metadata.jsonl.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile datasets==5.2.0 pandas==3.1.1 pillow==13.0.0 numpy==2.4.6
cd "$dir"
HF_HOME="$dir/cache" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$dir/env/bin/python" -W ignore - <<'PYTHON'
import csv, json
from pathlib import Path
from datasets import load_dataset
from PIL import Image


def captions(name, ending, texts):
    folder = Path(name)
    folder.mkdir()
    rows = [{"file_name": f"{i}.png", "text": text} for i, text in enumerate(texts)]
    for row in rows:
        Image.new("RGB", (8, 8)).save(folder / row["file_name"])
    with open(folder / f"metadata.{ending}", "w", newline="") as file:
        if ending == "csv":
            writer = csv.DictWriter(file, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return load_dataset("imagefolder", data_dir=name, split="train")["text"][:]


texts = ["None", "null", "NA", "a cat"]
in_csv, in_jsonl = captions("one", "csv", texts), captions("two", "jsonl", texts)
print("csv:  ", ", ".join(map(repr, in_csv)))
print("jsonl:", ", ".join(map(repr, in_jsonl)))
numbers = captions("three", "csv", ["007", "42"])
print("csv of '007' and '42':", ", ".join(map(repr, numbers)))
assert in_csv == [None, None, None, "a cat"]
assert in_jsonl == texts
assert numbers == [7, 42]
PYTHON
