#!/usr/bin/env bash
# PyTorch 2.13.0: `linalg.solve(stack, eye)` has no inverses if the stack has n matrices.
#
# `torch.linalg.solve(A, B)` with A of shape [k, n, n] and B of [n, n] broadcasts B over the
# stack, and gives [k, n, n]: with the identity, the inverses. But if k is n, the shape of B
# is also that of one vector for each matrix, and this is what it is taken for: the result
# is [n, n], of which row i solves with matrix i and row i of B. There is no error, and
# where the result is broadcast further its shape fits.
#
# Expected: the same rule for every k, as NumPy 2 has it, where B is vectors only if it has
# one axis. Code that is tested with two or three matrices of another size is right, and is
# wrong for three factors of three rows.
#
# Seen for k = 2 to 4 with n = 3; `torch.linalg.solve_ex` does the same. It is documented, as
# the first of two rules, of which one expects the second. The way out is
# `torch.linalg.inv(A)`, or `B.expand(k, n, n)`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
n, eye, gradient = 3, torch.eye(3), torch.randn(3, 3)
same = True
for k in (2, 3, 4):
    root = torch.randn(k, n, n)
    stack = root @ root.mT + eye
    inverses = torch.linalg.inv(stack)
    found = torch.linalg.solve(stack, eye)
    by_numpy = torch.from_numpy(np.linalg.solve(stack.numpy(), eye.numpy()))
    expanded = torch.linalg.solve(stack, eye.expand(k, n, n))
    by_ex = torch.linalg.solve_ex(stack, eye)[0]
    print(f"{k} matrices: PyTorch {tuple(found.shape)}, NumPy {tuple(by_numpy.shape)}")
    assert torch.allclose(by_numpy, inverses) and torch.allclose(expanded, inverses)
    same &= by_ex.shape == found.shape
    if k != n:
        same &= found.shape == (k, n, n) and torch.allclose(found, inverses)
        continue
    rows = torch.stack([inverses[i] @ eye[i] for i in range(n)])
    same &= found.shape == (n, n) and torch.allclose(found, rows)
    product, right = found @ gradient, inverses @ gradient
    error = ((product - right).norm() / right.norm()).item()
    print(f"  times a gradient {tuple(product.shape)}, should be {tuple(right.shape)};",
          f"broadcast to it, it is off by {error:.1f} of its size")
    same &= error > 0.1
print("as described" if same else "changed")
sys.exit(not same)
PY
