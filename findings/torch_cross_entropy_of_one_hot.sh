#!/usr/bin/env bash
# PyTorch 2.13.0: with class weights, one-hot targets have another loss than their labels.
#
# `F.cross_entropy(z, y, weight=w)` of labels is divided by the sum of the weights of the
# labels; of probabilities, `F.one_hot(y)` among them, by the number of cases. So the loss,
# its gradient and its Hessian change by the mean weight of the batch, which is another
# number for each batch, where labels are made one-hot, for mixed or soft labels say. The
# same options with `label_smoothing` take the first rule, with the weights of the labels.
# `F.cross_entropy` without weights, and with `reduction="sum"`, agrees.
#
# Expected: a one-hot vector is its label, as it is without weights. Both rules are in the
# documentation, in two formulas far apart.
#
# Seen, against both formulas by hand; gradients have the same factor, so that a step, a
# damping and a regularizer that suit the one do not suit the other. The way out is to
# divide by `w[y].sum()`, or `(targets @ w).sum()`, after `reduction="sum"`.
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
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
z, weight = torch.randn(6, 3), torch.tensor([1.0, 2.0, 5.0])
batches = {"rare labels": [0, 1, 2, 2, 2, 1], "common labels": [0, 0, 1, 0, 2, 0]}


def losses(y, **options):
    """The loss of labels and of one-hot targets, and the quotient of their gradients."""
    found, gradients = [], []
    for targets in (y, F.one_hot(y, 3).double()):
        outputs = z.clone().requires_grad_()
        loss = F.cross_entropy(outputs, targets, **options)
        loss.backward()
        found.append(loss.item())
        gradients.append(outputs.grad)
    quotient = (gradients[1] / gradients[0]).unique()
    assert (quotient - quotient[0]).abs().max() < 1e-12  # one number for all entries
    return *found, quotient[0].item()


same = True
for name, y in batches.items():
    y = torch.tensor(y)
    each = -z.log_softmax(-1)[range(6), y] * weight[y]
    mean_weight = (weight[y].sum() / 6).item()
    labels, one_hot, quotient = losses(y, weight=weight)
    print(f"{name}: labels {labels:.4f}, one-hot {one_hot:.4f}, gradients by {quotient:.4f};",
          f"by hand {each.sum() / weight[y].sum():.4f}, {each.mean():.4f}, {mean_weight:.4f}")
    same &= abs(labels - (each.sum() / weight[y].sum()).item()) < 1e-12
    same &= abs(one_hot - each.mean().item()) < 1e-12
    same &= abs(quotient - mean_weight) < 1e-12 and abs(mean_weight - 1) > 0.5
    for options in ({}, {"weight": weight, "reduction": "sum"}):
        labels, one_hot, quotient = losses(y, **options)
        same &= abs(labels - one_hot) < 1e-12 and abs(quotient - 1) < 1e-12
    smooth = F.one_hot(y, 3) * 0.9 + 0.1 / 3
    summed = F.cross_entropy(z, smooth, weight=weight, reduction="sum")
    labels = F.cross_entropy(z, y, weight=weight, label_smoothing=0.1)
    mixed = F.cross_entropy(z, smooth, weight=weight)
    print(f"  smoothed: labels {labels:.4f}, the same as probabilities {mixed:.4f}")
    same &= torch.allclose(labels, summed / weight[y].sum())
    same &= torch.allclose(mixed, summed / 6)
print("as described" if same else "changed")
sys.exit(not same)
PY
