#!/usr/bin/env bash
# opacus 1.6.0: gradients of each case of an `EmbeddingBag` count an id once for each bag.
#
# An id that is twice in a bag has twice the gradient. `grad_sample` has it once: rows are
# added at an index that repeats, which keeps one of them. For `mode="max"` all gradients of
# a case are zero. Neither is refused, and the sum of `grad_sample` over the cases, which
# should be the gradient times their number (opacus takes the loss for a mean), is not.
#
# Expected: the gradient of each case, as autograd has it of one case at a time; or an
# error. Bags of words repeat ids as a rule. `nn.Embedding` and a sum over the words is
# right.
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

import torch
from opacus import GradSampleModule
from torch import nn

torch.manual_seed(0)
table, weight = torch.randn(5, 2), torch.randn(2, 2)


def off(layer, call, bags):
    """The largest difference from autograd of one bag at a time, over the largest entry."""
    with torch.no_grad():
        layer.weight.copy_(table)
    rows = []
    for i, bag in enumerate(bags):
        loss = (call(layer, [bag]) * weight[i]).sum()
        rows.append(torch.autograd.grad(loss, layer.weight)[0])
    truth = torch.stack(rows)
    model = GradSampleModule(layer, loss_reduction="sum")
    (call(model, bags) * weight).sum().backward()
    return float((layer.weight.grad_sample - truth).abs().max() / truth.abs().max())


def in_bags(layer, bags):
    starts = torch.tensor([0, *(len(bag) for bag in bags)][:-1]).cumsum(0)
    return layer(torch.tensor([word for bag in bags for word in bag]), starts)


def in_rows(layer, bags):
    return layer(torch.tensor(bags)).sum(1)


apart, repeated = [[1, 2, 4], [3, 0, 2]], [[1, 1, 4], [3, 0, 3]]
found = {
    ("sum", "apart"): off(nn.EmbeddingBag(5, 2, mode="sum"), in_bags, apart),
    ("sum", "repeated"): off(nn.EmbeddingBag(5, 2, mode="sum"), in_bags, repeated),
    ("mean", "apart"): off(nn.EmbeddingBag(5, 2, mode="mean"), in_bags, apart),
    ("mean", "repeated"): off(nn.EmbeddingBag(5, 2, mode="mean"), in_bags, repeated),
    ("max", "apart"): off(nn.EmbeddingBag(5, 2, mode="max"), in_bags, apart),
    ("Embedding", "repeated"): off(nn.Embedding(5, 2), in_rows, repeated),
}
for (mode, ids), error in found.items():
    print(f"{mode:9} ids {ids:8} relative error {error:.1e}")
wrong = {("sum", "repeated"), ("mean", "repeated"), ("max", "apart")}
same = all(error > 0.3 if name in wrong else error < 1e-6 for name, error in found.items())
print("as described" if same else "changed")
sys.exit(not same)
PY
