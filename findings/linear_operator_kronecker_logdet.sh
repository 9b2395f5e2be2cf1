#!/usr/bin/env bash
# linear_operator 0.6.1: determinants of Kronecker products have a floor, in float64 too.
#
# `logdet` of a `KroneckerProductLinearOperator` takes eigenvalues of the product below 1e-7
# for 1e-7, whatever the dtype and however large the others are. The same operator made
# dense, and PyTorch, have the determinant. Eigenvalues themselves are cut at zero:
# `torch.linalg.eigvalsh` of an operator whose matrix is indefinite has zeros for the
# negative ones. Neither warns. Solves are right.
#
# Expected: the log of the determinant, to rounding. Factors of 1e-4 are usual where
# gradients are those of a mean loss, and their product has eigenvalues of 1e-8, so that
# an evidence which is made of it does not change with them. The way out is
# m logdet(A) + n logdet(B).
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 scipy==1.17.1 \
    setuptools==80.9.0 linear_operator==0.6.1 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import math
import sys
import warnings

import torch
from linear_operator import to_linear_operator
from linear_operator.operators import KroneckerProductLinearOperator

warnings.simplefilter("error")  # none comes
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def factor(n, scale):
    rows = torch.randn(4 * n, n)
    return scale * rows.T @ rows / len(rows)


off, solves = {}, []
for scale in (1.0, 1e-2, 1e-4, 1e-6):
    a, b = factor(3, scale), factor(4, scale)
    product = KroneckerProductLinearOperator(a, b)
    truth = 4 * a.logdet() + 3 * b.logdet()
    dense = torch.kron(a, b)
    assert abs(dense.logdet() - truth) < 1e-9
    off[scale] = float(product.logdet() - truth)
    v = torch.randn(12, 1)
    right = torch.linalg.solve(dense, v)
    solves.append(float((product.solve(v) - right).norm() / right.norm()))
    print(f"factors of {scale:.0e}: log of the determinant {float(truth):8.2f}, off by", end=" ")
    print(f"{off[scale]:.1e}; solve off by {solves[-1]:.0e}")
swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
cut = torch.linalg.eigvalsh(to_linear_operator(swap)).tolist()
print("eigenvalues", torch.linalg.eigvalsh(swap).tolist(), "are", cut)
floor = 12 * math.log(1e-7)
same = max(abs(off[1.0]), abs(off[1e-2])) < 1e-9 and min(off[1e-4], off[1e-6]) > 1
same &= abs(float(KroneckerProductLinearOperator(a, b).logdet()) - floor) < 1e-9
same &= max(solves) < 1e-10 and cut[0] == 0 and abs(cut[1] - 1) < 1e-12
print("as described" if same else "changed")
sys.exit(not same)
PY
