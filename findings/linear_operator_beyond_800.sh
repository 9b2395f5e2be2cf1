#!/usr/bin/env bash
# linear_operator 0.6.1: from size 801 on, solves, roots and samples are another thing.
#
# A `DenseLinearOperator` of up to 800 rows is solved, decomposed, and sampled by its
# Cholesky factor, to rounding. With one row more the same calls use conjugate gradients with
# a tolerance of 1, and Lanczos with at most 100 steps: `root_decomposition` has 100 columns,
# whatever the spectrum, `solve` stops far from the solution, and `logdet` is an estimate that
# differs from call to call.
#
# Expected: of an exact matrix in float64 an exact root, or an error that is announced. What
# is tested with small matrices is right, and what is run with large ones is not.
#
# Seen: for matrices of one spectrum, with a condition of 1e4, at 800 and 801 rows. The way out
# is `linear_operator.settings.fast_computations(False, False, False)`, with which both sizes
# are exact, or `max_cholesky_size`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    linear_operator==0.6.1 2>/dev/null

"$folder/v/bin/python" - <<'PY'
import sys
import warnings

import torch
from linear_operator import settings
from linear_operator.operators import DenseLinearOperator

torch.set_default_dtype(torch.float64)


def measure(n):
    """Relative errors of a root and a solve, the error of logdet, the rank of 120 samples."""
    torch.manual_seed(0)
    q = torch.linalg.qr(torch.randn(n, n))[0]
    matrix = (q * torch.logspace(-4, 0, n)) @ q.T
    matrix, v = (matrix + matrix.T) / 2, torch.randn(n, 1)

    def operator():
        return DenseLinearOperator(matrix)  # a new one each time: results are kept in it

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        root = operator().root_decomposition().to_dense()
        solution = operator().solve(v)
        logdet = operator().logdet()
        samples = operator().zero_mean_mvn_samples(120)
    return {
        "root": ((root - matrix).norm() / matrix.norm()).item(),
        "residual": ((matrix @ solution - v).norm() / v.norm()).item(),
        "logdet": abs((logdet - torch.logdet(matrix)).item()),
        "rank of 120 samples": torch.linalg.matrix_rank(samples).item(),
        "warnings": len(caught),
    }


found = {n: measure(n) for n in (800, 801)}
with settings.fast_computations(False, False, False):
    found["801, fast computations off"] = measure(801)
for name, values in found.items():
    print(f"{name}:", ", ".join(f"{key} {value:.3g}" for key, value in values.items()))
same = True
for name, values in found.items():
    exact = values["root"] < 1e-12 and values["residual"] < 1e-9 and values["logdet"] < 1e-6
    exact &= values["rank of 120 samples"] == 120
    poor = values["root"] > 0.1 and values["residual"] > 0.1 and values["logdet"] > 1
    poor &= values["rank of 120 samples"] <= 100
    same &= poor if name == 801 else exact
print("as described" if same else "changed")
sys.exit(not same)
PY
