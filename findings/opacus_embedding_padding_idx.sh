#!/usr/bin/env bash
# opacus 1.6.0: the padding of an `Embedding` has gradients of each case.
#
# `nn.Embedding(..., padding_idx=i)` gives its row i no gradient, so that padding stays
# what it is, and `scale_grad_by_freq` divides the gradient of a row by how often the row
# occurs. `GradSampleModule` reads neither: `grad_sample` has the gradients of an embedding
# without these options, without an error or a warning. `p.grad` is right.
#
# Expected: zeros at `padding_idx`, and an error for `scale_grad_by_freq`, which depends on
# all cases; BackPACK refuses both.
#
# Seen: the row of the padding has a gradient in every case that has padding, so it counts
# in the norm by which cases are clipped, and in a Fisher matrix of these gradients. The way
# out is to set `grad_sample[:, padding_idx]` to zero.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    opacus==1.6.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
import warnings

import torch
from opacus.grad_sample import GradSampleModule

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)
x = torch.tensor([[0, 1], [1, 1], [2, 4]])


def gradients(**options):
    """The gradient of the sum of all outputs, and the sum of those of each case."""
    model = torch.nn.Embedding(5, 1, **options)
    model(x).sum().backward()
    right, model.weight.grad = model.weight.grad[:, 0], None
    GradSampleModule(model, loss_reduction="sum")(x).sum().backward()
    return right.tolist(), model.weight.grad_sample.sum(0)[:, 0].tolist()


found = {}
for name, value in (("padding_idx", None), ("padding_idx", 1), ("scale_grad_by_freq", True)):
    found[value] = right, cases = gradients(**{name: value})
    print(f"{name}={value}: autograd {right}, opacus {cases}")
counts = [1, 3, 1, 0, 1]
same = found == {
    None: (counts, counts),
    1: ([1, 0, 1, 0, 1], counts),
    True: ([1, 1, 1, 0, 1], counts),
}
print("as described" if same else "changed")
sys.exit(not same)
PY
