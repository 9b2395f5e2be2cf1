#!/usr/bin/env bash
# PyTorch 2.13.0: the Jacobian of each case of `prelu` by `vmap(jacrev(f))` raises.
#
# Per-case Jacobians are `vmap(jacrev(f), (None, 0))(weight, cases)`, and per-case
# gradients `vmap(grad(f), (None, 0))`. For `torch.nn.functional.prelu` with a weight that
# all cases share, gradients are right, and so are Jacobians in a loop over the cases. The
# Jacobians under `vmap` end in
#
#     RuntimeError: split_with_sizes expects split_sizes to sum exactly to 5
#
# where 5 is the number of cases: the batch is taken for an axis of the weight. The same
# with `w * relu(-x)` in place of `prelu` works.
#
# Expected: the Jacobians of the loop. So references for parameters of PReLU go through the
# cases one by one.
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

import torch
from torch.func import grad, jacrev, vmap
from torch.nn.functional import prelu, relu

torch.manual_seed(0)
weight, cases = torch.full((1,), 0.25), torch.randn(5, 4, 3)


def by_prelu(weight, case):
    return prelu(case[None], weight).sum((1, 2))


def by_relu(weight, case):
    return (relu(case) - weight * relu(-case)).sum()[None]


def outcome(function):
    loop = torch.stack([jacrev(function)(weight, case) for case in cases])
    gradients = vmap(grad(lambda w, c: function(w, c).sum()), (None, 0))(weight, cases)
    same = torch.allclose(gradients.reshape(-1), loop.reshape(-1), atol=1e-5)
    try:
        found = vmap(jacrev(function), (None, 0))(weight, cases)
    except RuntimeError as error:
        return same, f"RuntimeError: {str(error).split(' (')[0]}"
    return same, str(torch.allclose(found, loop, atol=1e-5))


print("torch", torch.__version__)
found = {f.__name__: outcome(f) for f in (by_prelu, by_relu)}
for name, (gradients, jacobians) in found.items():
    print(f"{name:8} gradients as in a loop: {gradients}; Jacobians: {jacobians}")
message = "RuntimeError: split_with_sizes expects split_sizes to sum exactly to 5"
if found != {"by_prelu": (True, message), "by_relu": (True, "True")}:
    print("changed")
    sys.exit(1)
print("as described")
PY
