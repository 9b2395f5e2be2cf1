#!/usr/bin/env bash
# PyTorch 2.13.0: a hook on the outputs of `nn.Linear` is lost if these are changed in place.
#
# For inputs of three axes the outputs of a linear layer with a bias are a view of a matrix.
# An activation with `inplace=True` takes a view that it changes out of the graph: a hook
# that was put on the outputs before is not called, and a gradient edge that was taken of
# them gets None, without an error. For inputs of two axes, and without a bias, the outputs
# are no view, and both see the gradient.
#
# Expected: whatever sees the gradient for the outputs of a layer sees it for batches of
# sequences too. So take the edge, or put the hook, on what the outputs are a view of.
#
# Seen: (axes, bias) -> view, calls of the hook, sum of the gradient at the edge:
#   (2, True) no 1 31;  (3, True) yes 0 None;  (3, False) no 1 36
#   and at the base of (3, True): 31.
#
# Needs Python 3.11 and pip. Ends with 0 if the behaviour is the one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

cat >"$folder/views.py" <<'PY'
import sys

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

torch.manual_seed(1)
SEQUENCES = torch.randn(2, 5, 4)


def seen(x, bias, of_base=False):
    """Return what is seen of the gradient for the outputs, behind an activation."""
    torch.manual_seed(0)
    y = nn.Linear(4, 6, bias=bias)(x)
    edge = get_gradient_edge(y._base if of_base else y)
    is_view, calls = y._base is not None, []
    y.register_hook(calls.append)
    z = nn.functional.relu(y, inplace=True)
    (g,) = torch.autograd.grad(z.sum(), [edge], allow_unused=True)
    return is_view, len(calls), None if g is None else int(g.sum())


found = {
    "2 axes, bias": seen(SEQUENCES.reshape(10, 4), True),
    "3 axes, bias": seen(SEQUENCES, True),
    "3 axes, no bias": seen(SEQUENCES, False),
    "3 axes, bias, base": seen(SEQUENCES, True, of_base=True),
}
print("torch", torch.__version__)
for name, value in found.items():
    print(f"{name:20} view {value[0]}, calls {value[1]}, gradient {value[2]}")
expected = [(False, 1, 31), (True, 0, None), (False, 1, 36), (True, 0, 31)]
if [*found.values()] != expected:
    print("changed")
    sys.exit(1)
print("as described")
PY
"$folder/v/bin/python" "$folder/views.py"
