#!/usr/bin/env bash
# dattri 0.3.0: `ihvp_at_x_cg` does not read `tol`, and is NaN once it has converged.
#
# `ihvp_at_x_cg(func, x, max_iter=10, tol=1e-7)` says that it stops where the norm of the
# residual is below `tol`. It takes `max_iter` steps, whatever `tol` is. A step divides by the
# squared norm of the residual: where that is zero, the result is NaN. So it is for the
# Hessian I and 2 I, for a vector of zeros, and for a well conditioned one once there are
# steps enough for the square to underflow. `ihvp_cg` is the same function.
#
# Expected: the solution, and with a larger tolerance fewer steps. So choose `max_iter` alone,
# no larger than it needs to be, and leave vectors of zeros out.
#
# Seen: for quadratic functions in float64 with four weights, against `torch.linalg.solve`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    dattri==0.3.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from dattri.func.hessian import ihvp_at_x_cg, ihvp_cg

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
root = torch.randn(4, 4)
full, eye = root @ root.T + torch.eye(4), torch.eye(4)
vector, zeros, w = torch.randn(4), torch.zeros(4), torch.zeros(4)


def off(matrix, vector, **options):
    """The largest error of the product, NaN if that is NaN."""
    found = ihvp_at_x_cg(lambda w: w @ matrix @ w / 2, w, **options)(vector.clone())
    return (found[0] - torch.linalg.solve(matrix, vector)).abs().max().item()


def off_by_function_of_x(matrix):
    found = ihvp_cg(lambda w: w @ matrix @ w / 2)((w,), vector.clone())
    return (found[0] - torch.linalg.solve(matrix, vector)).abs().max().item()


found = {
    "H, 2 steps, tol=1e-7": off(full, vector, max_iter=2),
    "H, 10 steps, tol=1e-7": off(full, vector),
    "H, 10 steps, tol=1e9": off(full, vector, tol=1e9),
    "I": off(eye, vector),
    "2 I": off(2 * eye, vector),
    "I, ihvp_cg": off_by_function_of_x(eye),
    "H, a vector of zeros": off(full, zeros),
    "H, 100 steps": off(full, vector, max_iter=100),
}
for name, error in found.items():
    print(f"{name:22} error {error:.1e}")
two, ten, loose, *stopped = found.values()
same = (
    two > 1e-3
    and ten < 1e-12
    and loose == ten
    and all(error != error for error in stopped)
)
print("as described" if same else "changed")
sys.exit(not same)
PY
