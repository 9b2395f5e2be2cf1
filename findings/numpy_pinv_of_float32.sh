#!/usr/bin/env bash
# NumPy 2.4.6: `linalg.pinv` of a float32 matrix without full rank is 10^9 times too large.
#
# What `pinv` takes for zero is, by default, 1e-15 of the largest singular value, whatever
# the dtype. Rounding of float32 leaves singular values near 1e-7 where there is none, which
# are inverted. In float64 as well the cut is at a few units of rounding, whatever the size
# of the matrix. `matrix_rank` and `lstsq` of NumPy, and the `pinv` of SciPy and PyTorch, cut
# at the machine precision of the dtype times the larger size, as the array API standard
# says: the rank of the same matrix is found right.
#
# Expected: the pseudoinverse. So a pseudoinverse of a factor of few cases is noise in
# NumPy where it is right in PyTorch. The way out is `rtol=None`, which is another default
# than leaving it out.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install numpy==2.4.6 scipy==1.17.1 torch==2.13.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
import scipy.linalg
import torch

rows = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
factor = rows.T @ rows / 3
values, vectors = np.linalg.eigh(rows.astype(float).T @ rows.astype(float) / 3)
truth = (vectors[:, -3:] / values[-3:]) @ vectors[:, -3:].T


def off(found):
    return float(np.abs(found - truth).max() / np.abs(truth).max())


found = {
    "numpy": off(np.linalg.pinv(factor)),
    "numpy, hermitian": off(np.linalg.pinv(factor, hermitian=True)),
    "numpy, rtol=None": off(np.linalg.pinv(factor, rtol=None)),
    "scipy": off(scipy.linalg.pinv(factor)),
    "torch": off(torch.linalg.pinv(torch.asarray(factor)).numpy()),
}
print("rank by numpy:", np.linalg.matrix_rank(factor))
for name, error in found.items():
    print(f"{name:17} relative error {error:.1e}")
wrong, hermitian, *right = found.values()
same = min(wrong, hermitian) > 1e4 and max(right) < 1e-4
print("as described" if same else "changed")
sys.exit(not (same and np.linalg.matrix_rank(factor) == 3))
PY
