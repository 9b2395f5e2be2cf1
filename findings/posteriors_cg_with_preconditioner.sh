#!/usr/bin/env bash
# posteriors 0.1.3: conjugate gradients with a preconditioner are slower than without one.
#
# `posteriors.cg` takes a preconditioner `M`. Its first direction is the residual and not
# `M` of it, so that the directions which follow are not conjugate. With the exact inverse
# for `M`, where one step is enough, 200 steps are not, for 20 unknowns; without `M` some
# thirty are. `info["converged"]` is honest, and the solution comes without a warning.
#
# Expected: fewer steps the closer `M` is to the inverse, and one for the inverse, as of
# SciPy's `cg` and JAX's. So Kronecker factors as a preconditioner make it worse. The way
# out is a solve of `M^(1/2) A M^(1/2)` without a preconditioner, or another function.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 scipy==1.17.1 \
    setuptools==80.9.0 posteriors==0.1.3 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import posteriors
import scipy.sparse.linalg
import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
basis = torch.linalg.qr(torch.randn(20, 20))[0]
matrix = (basis * torch.logspace(0, 3, 20)) @ basis.T
b = torch.randn(20)
right = torch.linalg.solve(matrix, b)
inverses = {
    "the inverse": torch.linalg.inv(matrix),
    "of A + I": torch.linalg.inv(matrix + torch.eye(20)),
}


def ours(m=None):
    """Steps and relative error of `posteriors.cg`."""
    given = {} if m is None else {"M": lambda r: m @ r}
    x, info = posteriors.cg(lambda v: matrix @ v, b, tol=1e-8, **given)
    return info["niter"], bool(info["converged"]), float((x - right).norm() / right.norm())


def scipys(m=None):
    """The same of SciPy's."""
    steps = []
    given = {"rtol": 1e-8, "callback": steps.append}
    x, failed = scipy.sparse.linalg.cg(matrix.numpy(), b.numpy(), M=m, **given)
    return len(steps), failed == 0, float((torch.asarray(x) - right).norm() / right.norm())


plain, theirs = ours(), {"none": scipys()}
mine = {name: ours(m) for name, m in inverses.items()}
theirs |= {name: scipys(m.numpy()) for name, m in inverses.items()}
for name, (steps, converged, error) in {"none": plain, **mine}.items():
    other = theirs[name]
    print(f"M {name:12} {steps:3} steps, error {error:.0e}, SciPy's {other[0]} and {other[2]:.0e}")
wrong = all(steps == 200 and not done and error > 1e-5 for steps, done, error in mine.values())
right_ones = plain[1] and plain[2] < 1e-6 and theirs["the inverse"][0] <= 2
print("as described" if wrong and right_ones else "changed")
sys.exit(not (wrong and right_ones))
PY
