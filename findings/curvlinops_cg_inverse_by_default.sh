#!/usr/bin/env bash
# curvlinops 3.0.1: `CGInverseLinearOperator` stops after some ten steps, whatever is left.
#
# Without options it hands none to `linear_cg` of linear_operator (0.6.1 here), whose
# tolerance is 1: from the eleventh step on it ends where the residual is smaller than the
# vector, as that of a vector of zeros nearly is. There is no warning, since it has converged
# by its own tolerance. With `tolerance=1e-8` it warns after 1000 steps: the residual stays
# near 1e-5.
#
# Expected: an inverse to a small residual, as of SciPy's `cg` (1e-5), or a warning. So a
# step or an influence is far off where the damping is small. The way out is `tolerance`.
#
# Seen: for a Gauss-Newton matrix of 143 parameters with damping 1e-3 (condition 1.5e3) the
# residual is 0.8 of the vector, and the product a quarter off.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 scipy==1.17.1 \
    setuptools==80.9.0 linear_operator==0.6.1 curvlinops-for-pytorch==3.0.1 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
import warnings

import torch
from curvlinops import CGInverseLinearOperator, GGNLinearOperator
from curvlinops.examples import IdentityLinearOperator
from scipy.sparse.linalg import cg
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x, y = torch.randn(100, 10) * torch.logspace(0, 1, 10), torch.randint(3, (100,))
model = nn.Sequential(nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 3))
params = [*model.parameters()]
matrix = GGNLinearOperator(model, nn.CrossEntropyLoss(), params, [(x, y)])
shapes = [tuple(own.shape) for own in params]
eye = IdentityLinearOperator(shapes, torch.device("cpu"), torch.float64)
damped = matrix + 1e-3 * eye
v = torch.randn(damped.shape[0])
dense = damped @ torch.eye(len(v))
right = torch.linalg.solve(dense, v)


def left(found):
    """The residual over the vector, and the error over the solution."""
    residual, error = dense @ found - v, found - right
    return float(residual.norm() / v.norm()), float(error.norm() / right.norm())


with warnings.catch_warnings():
    warnings.simplefilter("error")
    by_default = CGInverseLinearOperator(damped) @ v
found = {
    "default": left(by_default),
    "tolerance=1e-8": left(CGInverseLinearOperator(damped, tolerance=1e-8) @ v),
    "SciPy's cg": left(torch.asarray(cg(dense.numpy(), v.numpy())[0])),
}
for name, (residual, error) in found.items():
    print(f"{name:15} residual {residual:.1e}, error {error:.1e}")
default, *others = found.values()
same = min(default) > 0.1 and all(max(own) < 1e-3 for own in others)
print("as described" if same else "changed")
sys.exit(not same)
PY
