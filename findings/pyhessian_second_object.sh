#!/usr/bin/env bash
# PyHessian 0.1: of two objects for one model the second has the sum of both Hessians.
#
# `hessian(model, criterion, data=...)` runs a backward pass when it is made, and takes
# `param.grad` for the gradient of its batch. It does not clear what stands there. If another
# object was made before for the same model, and none of its methods has run since, that is
# the gradient of the other batch, with its graph: the Hessian of the second object is that of
# both losses. The methods clear the gradients, so that objects that are made and used one
# after another are right.
#
# Expected: each object has the Hessian of its own batch. So call `model.zero_grad()` before
# each is made.
#
# Seen, for a loss with a diagonal Hessian, where one sample of the trace is exact: traces of
# 20 and 26 are 20 and 46 where both objects are made first.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 2>/dev/null
"$folder/v/bin/pip" -q install --no-deps pyhessian==0.1 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
import torch
from pyhessian import hessian

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Squares(torch.nn.Module):
    """x w^2 for each weight w, so that the sum has the Hessian 2 diag(x)."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.w**2


def loss(outputs, targets):
    return outputs.sum()


batches = torch.tensor([[1.0, 2, 3, 4], [10, 1, 1, 1]])


def dense(x):
    """The trace and the largest eigenvalue of the whole matrix."""
    matrix = torch.func.hessian(lambda w: (x * w**2).sum())(torch.ones(4))
    return matrix.trace().item(), torch.linalg.eigvalsh(matrix)[-1].item()


def made(model, x):
    return hessian(model, loss, data=(x, torch.zeros(1)), cuda=False)


def of(one):
    return np.mean(one.trace()), one.eigenvalues(maxIter=1000, tol=1e-12)[0][0]


model = Squares()
both = [made(model, x) for x in batches]
found = {"both made first": [of(one) for one in both]}
model = Squares()
found["one after another"] = [of(made(model, x)) for x in batches]
model, cleared = Squares(), []
for x in batches:
    model.zero_grad()
    cleared.append(made(model, x))
found["zero_grad before each"] = [of(one) for one in cleared]
right = [dense(x) for x in batches]
summed = [right[0], dense(batches.sum(0))]
for name, values in {"dense": right, **found}.items():
    print(f"{name:22}", ", ".join(f"trace {t:.3f}, largest {e:.3f}" for t, e in values))
same = (
    np.allclose(found["both made first"], summed)
    and np.allclose(found["one after another"], right)
    and np.allclose(found["zero_grad before each"], right)
    and not np.allclose(summed, right)
)
print("as described" if same else "changed")
sys.exit(not same)
PY
