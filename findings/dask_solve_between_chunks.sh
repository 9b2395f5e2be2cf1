#!/usr/bin/env bash
# dask 2026.8.0: `da.linalg.solve` does not pivot between chunks.
#
# The default, `assume_a="gen"`, is for any invertible matrix, and documented as an LU
# decomposition. Rows are exchanged within the chunks on the diagonal alone. So of a matrix
# that is as well conditioned as can be the result is wrong where a chunk on the diagonal is
# nearly singular, without an error or a warning, and where it is singular the call raises
# that the matrix is. Whether it does depends on the chunks.
#
# Expected: the accuracy of `numpy.linalg.solve`. Matrices of this kind are no accident:
# [[d I, C'], [C, 0]] is what a constraint or an augmented least-squares problem has.
#
# Seen: for [[d I, I], [I, 0]], with a condition of 1, one part of the solution is off by
# 1e-3 at d = 1e-14 and by 0.2 at 1e-16, with the first two rows in one chunk; in a chunk
# of four all is exact to rounding. The way out is one chunk, or `assume_a="pos"` for a
# matrix that is positive definite, which needs no pivots.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install "dask[array]==2026.8.0" numpy==2.4.6 scipy==1.17.1 2>/dev/null

"$folder/v/bin/python" -W error <<'PY'
import sys

import dask.array as da
import numpy as np

right_side = np.arange(1.0, 5.0) / 3


def matrix(d):
    eye = np.eye(2)
    return np.block([[d * eye, eye], [eye, 0 * eye]])


def error(d, chunk):
    """The largest error of a solution, whose own entries are about one."""
    a, b = (da.from_array(own, chunks=chunk) for own in (matrix(d), right_side))
    x = da.linalg.solve(a, b).compute()
    right = np.linalg.solve(matrix(d), right_side)
    exact = np.concatenate([right_side[2:], right_side[:2] - d * right_side[2:]])
    assert np.abs(right - exact).max() < 1e-15
    return np.abs(x - exact).max()


errors = {}
for d in (1e-8, 1e-14, 1e-16):
    errors[d] = error(d, 2), error(d, 4)
    print(f"d = {d:.0e}, condition {np.linalg.cond(matrix(d)):.1f}: error in chunks of two",
          f"{errors[d][0]:.1e}, in one chunk {errors[d][1]:.1e}")
try:
    raised = f"no error, {error(0.0, 2):.1e}"
except np.linalg.LinAlgError as problem:
    raised = str(problem)
print("d = 0 in chunks of two:", raised)
whole = error(0.0, 4)
print(f"d = 0 in one chunk: {whole:.1e}")
same = (
    errors[1e-14][0] > 1e-4
    and errors[1e-16][0] > 1e-2
    and all(own[1] < 1e-14 for own in errors.values())
    and "singular" in raised
    and whole < 1e-15
)
print("as described" if same else "changed")
sys.exit(not same)
PY
