#!/usr/bin/env bash
# dattri 0.3.0: EK-FAC's eigenvalues are not in the eigenbasis of K-FAC.
#
# `estimate_eigenvector` returns what `torch.linalg.eigh` does: eigenvectors in the columns
# of `q`. `estimate_lambda` rotates the gradient of a case by `q_s @ gradient @ q_a.T`, as if
# they were in the rows. The corrected eigenvalues are then the mean squares in another
# orthonormal basis, which has no meaning; here they are off by 70%.
#
# Expected: `q_s.T @ gradient @ q_a` (George et al., 2018). So results of EK-FAC cannot be
# compared with this release.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    dattri==0.3.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
import warnings

import torch
from dattri.func.fisher import estimate_covariance, estimate_eigenvector, estimate_lambda

warnings.simplefilter("ignore")
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
layer = torch.nn.Linear(4, 3, bias=False)
x, y = torch.randn(50, 4) @ torch.randn(4, 4), torch.randn(50, 3)
cache = {}


def loss(batch):
    inputs, targets = batch
    outputs = layer(inputs)
    outputs.retain_grad()
    cache["layer"] = (inputs, outputs)
    return torch.nn.functional.mse_loss(outputs, targets)


data = torch.utils.data.TensorDataset(x, y)
loader = torch.utils.data.DataLoader(data, batch_size=50)
covariance = estimate_covariance(loss, loader, cache)
basis = estimate_eigenvector(covariance)
found = estimate_lambda(loss, loader, basis, cache)["layer"]
q_a, q_s = basis["layer"]
a, s = covariance["layer"]
in_basis = q_a.T @ a @ q_a
columns = torch.allclose(in_basis, torch.diag(torch.diag(in_basis)), atol=1e-9)
g = cache["layer"][1].grad
gradients = g[:, :, None] * x[:, None, :]
right = ((q_s.T @ gradients @ q_a) ** 2).mean(0)
by_rows = ((q_s @ gradients @ q_a.T) ** 2).mean(0)
error = ((found - right).norm() / right.norm()).item()
print("eigenvectors are the columns:", columns)
print("as if they were the rows:", torch.allclose(found, by_rows))
print(f"relative error of the corrected eigenvalues: {error:.2f}")
if not (columns and torch.allclose(found, by_rows) and error > 0.1):
    print("changed")
    sys.exit(1)
print("as described")
PY
