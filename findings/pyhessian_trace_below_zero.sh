#!/usr/bin/env bash
# PyHessian 0.1: `trace` stops after two samples where the trace is negative.
#
# `hessian(...).trace(maxIter=100, tol=1e-3)` averages samples v'Hv until the mean changes by
# less than `tol` of itself. The change is divided by the mean, not by its size, so that of a
# negative mean the quotient is negative, which is less than any tolerance: the samples end
# as soon as two of them have a negative mean, whatever their spread.
#
# Expected: as many samples for -H as for H, and the same accuracy. Away from a minimum a
# trace may well be negative.
#
# Seen, for a quadratic function with the Hessian H or -H over 200 seeds: half of the
# estimates for H use more than 20 samples, half of those for -H two, as many as it takes for
# a negative mean, and their standard deviation is that of two samples, more than twice that
# for H. The way out is `tol=-inf`, which takes `maxIter` samples.
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
root = torch.randn(30, 30)
matrix = root + root.T + 4 * torch.eye(30)
trace = matrix.trace().item()
data = torch.zeros(1, 30), torch.zeros(1)


def estimate(sign, seed, **options):
    """The estimate for weights w with the loss w' (sign H) w / 2, and how many samples."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(30, 1, bias=False)

    def loss(outputs, targets):
        w = model.weight[0]
        return sign * w @ matrix @ w / 2

    samples = hessian(model, loss, data=data, cuda=False).trace(**options)
    return np.mean(samples), len(samples)


found = {}
for name, sign, options in (
    ("H", 1, {}),
    ("-H", -1, {}),
    ("-H, tol=-inf", -1, {"tol": -np.inf}),
):
    runs = np.array([estimate(sign, seed, **options) for seed in range(200)])
    found[name] = np.median(runs[:, 1]), runs[:, 0].std()
    print(f"{name}: trace {sign * trace:.1f}, median of samples {found[name][0]:.0f},",
          f"estimates {runs[:, 0].mean():.1f}, standard deviation {found[name][1]:.1f}")
exact = 2 * (matrix.square().sum() - matrix.diagonal().square().sum())
one = exact.sqrt().item()  # that of one sample of Rademacher vectors
print(f"standard deviation of one sample {one:.1f}, of the mean of two {one / 2**0.5:.1f}")
same = (
    found["H"][0] > 20
    and found["-H"][0] == 2
    and found["-H, tol=-inf"][0] == 100
    and found["-H"][1] > 2 * found["H"][1]
)
print("as described" if same else "changed")
sys.exit(not same)
PY
