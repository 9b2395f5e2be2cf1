#!/usr/bin/env bash
# nngeometry 0.4: the dense Fisher matrix of a layer that is called twice is wrong.
#
# `PMatDense` is what other representations are compared with. Of a model that calls one
# `Linear` twice, one after the other, `FIM` of `classif_logits` gives a dense matrix
# without an error or a warning, whose block of this layer is 80 % off the Fisher matrix by
# `torch.func` (largest difference over largest entry). The block of the layer that is
# called once, in the same matrix, is right to rounding, and so is that of a model that
# calls each layer once. The inputs of the second call stand in for those of the first.
#
# Expected: the Fisher matrix, or an error. Compare with `torch.func.jacrev` instead, where
# modules are used again. (The default dtype is float64 here: with a model in float64 alone
# `classif_logits` raises, since it multiplies with a matrix of the default dtype.)
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 \
    setuptools==80.9.0 nngeometry==0.4 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense
from torch.func import functional_call, jacrev, vmap
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x, y = torch.randn(5, 3), torch.zeros(5, dtype=torch.long)


class Model(torch.nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3, bias=False)
        self.outer = torch.nn.Linear(3, 2, bias=False)
        self.calls = calls

    def forward(self, x):
        for _ in range(self.calls):
            x = torch.tanh(self.inner(x))
        return self.outer(x)


def truth(model):
    params = {name: p.detach() for name, p in model.named_parameters()}

    def logs(params, row):
        return functional_call(model, params, (row[None],))[0].log_softmax(0)

    rows = vmap(jacrev(logs), (None, 0))(params, x)
    flat = torch.cat([own.flatten(2) for own in rows.values()], 2)
    return torch.einsum("nc,ncp,ncq->pq", model(x).softmax(1), flat, flat) / len(x)


def off(calls):
    model = Model(calls)
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    options = {"representation": PMatDense, "variant": "classif_logits"}
    found, exact = FIM(model=model, loader=loader, **options).to_torch(), truth(model)
    return [
        float((found - exact)[own, own].abs().max() / exact[own, own].abs().max())
        for own in (slice(0, 9), slice(9, None))
    ]


once, twice = off(1), off(2)
print(f"called once:  {once[0]:.1e} in the inner layer, {once[1]:.1e} in the outer")
print(f"called twice: {twice[0]:.1e} in the inner layer, {twice[1]:.1e} in the outer")
sys.exit(not (max(*once, twice[1]) < 1e-12 and twice[0] > 0.05))
PY
