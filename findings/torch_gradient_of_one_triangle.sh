#!/usr/bin/env bash
# PyTorch 2.13.0: `eigvalsh` and `cholesky` read one triangle, and have the gradient of two.
#
# `linalg.eigh`, `eigvalsh` and `cholesky` read the lower triangle alone; what stands above
# the diagonal may be anything. The gradient is not that of this function: it is spread over
# both triangles, as if the matrix could only change as a symmetric one. An entry below the
# diagonal has half of its derivative, and one above, which is not read, the other half. The
# documentation says which triangle is read, and nothing of this.
#
# Expected: the derivative by what is read. So of parameters that fill one triangle, with
# zeros above, the gradient is half outside of the diagonal. For a symmetric matrix that is
# made of parameters, as A A' is, it is right. The way out is to make the matrix symmetric
# first: `T.tril() + T.tril(-1).mT`.
#
# Seen: against central differences of each entry, for float64 matrices of three rows.
#
# Needs Python 3.11 and pip. Ends with 0 if the behaviour is the one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from torch import linalg

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
root = torch.randn(3, 3)
triangle = (root @ root.T + torch.eye(3)).tril()


def differences(function, at, step=1e-5):
    """Central differences by each entry, with errors of about step^2."""
    found = torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            change = torch.zeros(3, 3)
            change[i, j] = step
            found[i, j] = (function(at + change) - function(at - change)) / (2 * step)
    return found


def gradient(function, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at), at)[0]


functions = {
    "eigvalsh": lambda matrix: linalg.eigvalsh(matrix).log().sum(),
    "eigh": lambda matrix: linalg.eigh(matrix)[0].log().sum(),
    "cholesky": lambda matrix: 2 * linalg.cholesky(matrix).diagonal().log().sum(),
}
same = True
for name, function in functions.items():
    truth, found = differences(function, triangle), gradient(function, triangle)
    halves = (truth + truth.mT) / 2

    def filled(matrix, function=function):
        return function(matrix.tril() + matrix.tril(-1).mT)

    out = gradient(filled, triangle)
    print(f"{name}: differences\n{truth}\ngradient\n{found}\ngradient, made symmetric\n{out}")
    same &= torch.allclose(found, halves, atol=1e-7)
    same &= not torch.allclose(found.tril(), truth, atol=1e-2)
    same &= bool((truth.triu(1) == 0).all())
    same &= torch.allclose(out, truth, atol=1e-7)
print("as described" if same else "changed")
sys.exit(not same)
PY
