#!/usr/bin/env bash
# curvlinops 3.0.1, BackPACK 1.7.1: curvature of `CrossEntropyLoss` without its options.
#
# Targets at `ignore_index` count in no loss and no gradient, and `weight` multiplies the
# loss of each class. Both are in what PyTorch's autograd differentiates; BackPACK's
# `DiagGGNExact` and curvlinops' `KFACLinearOperator` read the number of cases and the
# reduction alone. BackPACK refuses `weight`, and takes `ignore_index` as if every target
# counted; curvlinops takes both so. Neither warns, and -100 is ignored by default.
#
# Expected: the Gauss-Newton matrix of the loss that is given, or an error.
#
# Seen: with one of two equal cases ignored, under a sum, both are twice the exact matrix
# of `GGNLinearOperator`; with a weight of 2 for the class of all cases, K-FAC is half of
# it. Without these options, and with `label_smoothing`, both are exact here. The way out
# is to drop the cases that are ignored before the model.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    curvlinops-for-pytorch==3.0.1 backpack-for-pytorch==1.7.1 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
import warnings

import torch
from backpack import backpack, extend
from backpack.extensions import DiagGGNExact
from curvlinops import GGNLinearOperator, KFACLinearOperator
from torch import nn

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x = torch.randn(1, 4).repeat(2, 1)
y = torch.tensor([1, 1])


def ratios(y, **options):
    """Traces over that of the exact matrix: of curvlinops' K-FAC and BackPACK's diagonal."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    args = (model, nn.CrossEntropyLoss(**options), [*model.parameters()], [(x, y)])
    exact = GGNLinearOperator(*args, check_deterministic=False) @ torch.eye(12)
    kfac = KFACLinearOperator(*args, fisher_type="type-2", check_deterministic=False)
    loss = extend(nn.CrossEntropyLoss(**options))(extend(model)(x), y)
    try:
        with backpack(DiagGGNExact()):
            loss.backward()
    except NotImplementedError:
        diagonal = None
    else:
        diagonal = (model[0].weight.diag_ggn_exact.sum() / exact.trace()).item()
    return (kfac.trace / exact.trace()).item(), diagonal


ignored = torch.tensor([1, -100])
weight = torch.tensor([1.0, 2.0, 1.0])
cases = {
    "plain": ratios(y),
    "label_smoothing": ratios(y, label_smoothing=0.3),
    "ignored, sum": ratios(ignored, reduction="sum"),
    "weight, sum": ratios(y, weight=weight, reduction="sum"),
}
for name, (kfac, diagonal) in cases.items():
    print(f"{name:15}: K-FAC over exact {kfac:.3f}, BackPACK over exact {diagonal}")
expected = {
    "plain": (1, 1),
    "label_smoothing": (1, 1),
    "ignored, sum": (2, 2),
    "weight, sum": (0.5, None),
}
same = all(
    abs(kfac - expected[name][0]) < 1e-9
    and (diagonal is None) == (expected[name][1] is None)
    and (diagonal is None or abs(diagonal - expected[name][1]) < 1e-9)
    for name, (kfac, diagonal) in cases.items()
)
print("as described" if same else "changed")
sys.exit(not same)
PY
