#!/usr/bin/env bash
# dattri 0.3.0: the damping of `ihvp_lissa` counts `scaling` times.
#
# `ihvp_lissa(func, damping=d, scaling=s)` is a series for an inverse of the Hessian times a
# vector, by random batches; `scaling`, 50 by default, makes the series converge and has no
# place in what it converges to. But the damping is scaled with it: the limit is
# (H + d s I)^-1 v. A damping of 0.01 is one of 0.5, and a change of `scaling` changes the
# result.
#
# Expected: (H + d I)^-1 v, as `regularization=d` gives for `ihvp_explicit`, `ihvp_cg`, and
# `ihvp_arnoldi` of the same module. The way out is `damping=d / scaling`.
#
# Seen: for a quadratic function with all cases in one batch, so that nothing is random.
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
from dattri.func.hessian import ihvp_explicit, ihvp_lissa

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
root = torch.randn(4, 4)
matrix = root @ root.T + torch.eye(4)
cases, vector, w = torch.ones(5), torch.randn(4), torch.zeros(4)


def loss(w, cases):
    return cases.mean() * w @ matrix @ w / 2


def solve(damping):
    return torch.linalg.solve(matrix + damping * torch.eye(4), vector)


def off(found, right):
    return ((found.flatten() - right).norm() / right.norm()).item()


same = True
for damping, scaling in ((0.0, 50.0), (0.01, 50.0), (0.01, 25.0), (0.1, 50.0)):
    options = {"batch_size": 5, "recursion_depth": 1500, "scaling": scaling}
    at = (w, cases), vector
    found = ihvp_lissa(loss, damping=damping, **options)(*at, in_dims=(None, 0))
    divided = ihvp_lissa(loss, damping=damping / scaling, **options)(*at, in_dims=(None, 0))
    explicit = ihvp_explicit(loss, regularization=damping)(*at)
    errors = {
        "(H + d I)^-1 v": off(found, solve(damping)),
        "(H + d s I)^-1 v": off(found, solve(damping * scaling)),
    }
    print(f"d = {damping}, s = {scaling:.0f}: off",
          ", ".join(f"from {name} by {error:.1e}" for name, error in errors.items()),
          f"; damping=d / s from (H + d I)^-1 v by {off(divided, solve(damping)):.1e}")
    same &= errors["(H + d s I)^-1 v"] < 1e-12 and off(explicit, solve(damping)) < 1e-12
    same &= off(divided, solve(damping)) < 1e-12
    same &= damping == 0 or errors["(H + d I)^-1 v"] > 0.05
print("as described" if same else "changed")
sys.exit(not same)
PY
