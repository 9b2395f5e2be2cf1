#!/usr/bin/env bash
# MLX 0.32.4 on the CPU: the Cholesky factor of an indefinite matrix is finite.
#
# NumPy, SciPy and PyTorch raise for a matrix that is not positive definite, and JAX
# returns NaN. `mlx.core.linalg.cholesky` does neither: LAPACK stops at the first pivot
# that is not positive, and what it had written by then is returned. So [[1, 2], [2, 1]]
# has the "factor" [[1, 0], [2, -3]], and a matrix of zeros has zeros.
#
# Expected: an error, or NaN. So a factor counts only where its diagonal is finite *and*
# positive.
#
# Seen: the two triangles above.
#
# Needs Python 3.11 or later, pip and Linux on x86-64. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install 'mlx[cpu]==0.32.4' 2>/dev/null

"$folder/v/bin/python" <<'PY'
import sys

import mlx.core as mx

mx.set_default_device(mx.cpu)
matrices = {"indefinite": [[1.0, 2.0], [2.0, 1.0]], "zeros": [[0.0, 0.0], [0.0, 0.0]]}
found = {k: mx.linalg.cholesky(mx.array(m)).tolist() for k, m in matrices.items()}
print("mlx", mx.__version__)
for name, factor in found.items():
    print(f"{name:10} {factor}")
expected = {"indefinite": [[1.0, 0.0], [2.0, -3.0]], "zeros": [[0.0, 0.0], [0.0, 0.0]]}
if found != expected:
    print("changed")
    sys.exit(1)
print("as described")
PY
