#!/bin/sh
# One missing embedding in a Parquet column shifts all the rows after it.
#
# Packages: pyarrow 26.0.1, polars 2.1.0, numpy 2.4.6.
# Expect:   the fixed-size lists of a column, flattened and reshaped to (-1, dim), are a matrix with a row
#           for each row of the table, as polars' to_numpy gives.
# Found:    flatten() leaves a missing list out, so that row 2 of the table is row 1 of the matrix.
#           "values" keeps it, but ignores that the array is a slice and starts at the first row of
#           the whole column again. Neither is what polars gives: NaN instead of the row.
# Seen:     rows of the table: 3; flatten: 2, values: 3, polars: 3
#           row 2 of the table [5.0, 6.0]; row 1 of flatten [5.0, 6.0]
#           the slice [2:3]: flatten [5.0, 6.0], values start with [1.0, 2.0]
# Matters:  pictures that could not be embedded are stored as null, and the search then returns
#           the neighbours of another picture.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/env"
"$dir/env/bin/pip" install --quiet --no-compile pyarrow==26.0.1 polars==2.1.0 numpy==2.4.6
cd "$dir"
env/bin/python - <<'PYTHON'
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq

embeddings = pa.array([[1, 2], None, [5, 6]], pa.list_(pa.float32(), 2))
pq.write_table(pa.table({"embedding": embeddings}), "embeddings.parquet")
column = pq.read_table("embeddings.parquet")["embedding"].combine_chunks()


def matrix(flat):
    return flat.to_numpy(zero_copy_only=False).reshape(-1, 2)


flat, values = matrix(column.flatten()), matrix(column.values)
other = polars.read_parquet("embeddings.parquet")["embedding"].to_numpy()
print(f"rows of the table: {len(column)}; flatten: {len(flat)}, values: {len(values)}, polars: {len(other)}")
assert (len(column), len(flat), len(values), len(other)) == (3, 2, 3, 3)
print(f"row 2 of the table {column[2].as_py()}; row 1 of flatten {flat[1].tolist()}")
assert column[2].as_py() == flat[1].tolist() == [5, 6]
assert np.isnan(other[1]).all() and other[2].tolist() == [5, 6]

part = column[2:3]
first, whole = matrix(part.flatten())[0].tolist(), matrix(part.values)[0].tolist()
print(f"the slice [2:3]: flatten {first}, values start with {whole}")
assert (first, whole) == ([5, 6], [1, 2])
PYTHON
