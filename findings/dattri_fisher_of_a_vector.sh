#!/usr/bin/env bash
# dattri 0.3.0: the explicit Fisher matrix of a vector of parameters has equal entries.
#
# `ifvp_explicit` and `ifvp_at_x_explicit` solve with "the explicit FIM" of a function of
# the parameters, which are one vector in the library's own use (`flatten_params`). The
# matrix is made by `g @ g.T`. Of a gradient with one axis that is its squared norm, a
# number, which broadcasts: the matrix has that number in every entry. With `regularization`
# the solve succeeds, and there is no warning.
#
# Expected: the outer product of the gradient. With it the result agrees with Sherman and
# Morrison to rounding; so the functions serve no comparison.
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
from dattri.func.fisher import ifvp_at_x_explicit, ifvp_explicit

torch.manual_seed(0)
x, y, w = torch.randn(20, 5), torch.randn(20), torch.randn(5)
DAMPING = 0.1


def loss(w):
    return ((x @ w - y) ** 2).mean()


v = torch.randn(1, 5)
g = torch.func.grad(loss)(w)
right = (v - (v @ g)[:, None] * g / (DAMPING + g @ g)) / DAMPING
equal = (g @ g) * torch.ones(5, 5) + DAMPING * torch.eye(5)
of_equal_entries = torch.linalg.solve(equal, v.T).T
outer = torch.outer(g, g) + DAMPING * torch.eye(5)
assert torch.allclose(torch.linalg.solve(outer, v.T).T, right, rtol=1e-3)
found = {
    "ifvp_explicit": ifvp_explicit(loss, regularization=DAMPING)((w,), v),
    "ifvp_at_x_explicit": ifvp_at_x_explicit(loss, w, regularization=DAMPING)(v),
}
same = True
for name, own in found.items():
    off = float((own - right).norm() / right.norm())
    near = float((own - of_equal_entries).norm() / right.norm())
    print(f"{name:18}: {off:.2f} off the outer product's, {near:.0e} off that of equal entries")
    same &= off > 0.1 and near < 1e-4
print("as described" if same else "changed")
sys.exit(not same)
PY
