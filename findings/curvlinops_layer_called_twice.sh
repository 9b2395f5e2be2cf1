#!/usr/bin/env bash
# curvlinops 3.0.1: K-FAC of a layer that is called twice is twice as large.
#
# A model that calls one `Linear` at two positions, one after the other, computes the same
# function, bit for bit, as a model that calls it once on the sequence of both. Their exact
# Gauss-Newton matrices (`GGNLinearOperator`) are equal. `KFACLinearOperator` gives for two
# calls exactly twice the matrix that it gives for one, and no error or warning: each call
# adds factors of its own, both of the input and of the gradient, so that their product
# counts the calls squared over two.
#
# Expected: the same matrix, which for this model and loss is the exact one. So a layer that
# is called several times needs to be one call on a sequence before it is compared.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    curvlinops-for-pytorch==3.0.1 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from curvlinops import GGNLinearOperator, KFACLinearOperator

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
layer = torch.nn.Linear(3, 2, bias=False)
x, y = torch.randn(5, 2, 3), torch.randn(5, 4)


class OneCall(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).flatten(1)


class TwoCalls(OneCall):
    def forward(self, x):
        return torch.cat([self.layer(x[:, 0]), self.layer(x[:, 1])], dim=1)


def dense(operator, model):
    args = (model, torch.nn.MSELoss(), [*model.parameters()], [(x, y)])
    options = {"check_deterministic": False}
    if operator is KFACLinearOperator:
        options["fisher_type"] = "type-2"
    return operator(*args, **options) @ torch.eye(6)


one, two = OneCall(), TwoCalls()
assert torch.equal(one(x), two(x))
same = torch.allclose(dense(GGNLinearOperator, one), dense(GGNLinearOperator, two))
once, twice = (dense(KFACLinearOperator, model) for model in (one, two))
exact = torch.allclose(once, dense(GGNLinearOperator, one))
print("exact GGN of both alike:", same)
print("K-FAC of one call is the exact GGN:", exact)
print("K-FAC of two calls over that of one:", (twice / once).flatten()[0].item())
if not (same and exact and torch.allclose(twice, 2 * once)):
    print("changed")
    sys.exit(1)
print("as described")
PY
