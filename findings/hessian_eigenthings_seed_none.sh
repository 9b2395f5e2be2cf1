#!/usr/bin/env bash
# hessian-eigenthings 1.0.0a5: `seed=None` is one fixed seed.
#
# `trace`, `hutchinson`, `hutch_plus_plus`, `lanczos`, `power_iteration_one` and
# `spectral_density` take `seed=None` by default, and then a new `torch.Generator` that nobody
# seeds. A new generator has always the same seed, 67280421310721 in PyTorch 2.13 (and
# `spectral_density` takes 0): every call draws the same vectors, and `torch.manual_seed`
# changes nothing.
#
# Expected: as elsewhere, that calls without a seed draw anew, or follow `torch.manual_seed`.
# So a mean over calls is no better than one, and their spread is no measure of the error:
# give each call a seed of its own.
#
# Seen: for a matrix of 30 rows, against its own trace and the standard deviation that theory
# gives for Hutchinson's estimate.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 scipy==1.17.1 setuptools==80.9.0 \
    hessian-eigenthings==1.0.0a5 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from hessian_eigenthings import (
    CurvatureOperator,
    hutchinson,
    lanczos,
    power_iteration_one,
    spectral_density,
    trace,
)

torch.manual_seed(0)
root = torch.randn(30, 30, dtype=torch.float64)
matrix = root + root.T


class Whole(CurvatureOperator):
    size, dtype, device = 30, torch.float64, torch.device("cpu")

    def matvec(self, v):
        return matrix @ v


def hutch(seed=None):
    return hutchinson(Whole(), num_samples=10, seed=seed).estimate


def values(seed=None):
    return lanczos(Whole(), k=2, max_iter=4, seed=seed).eigenvalues.tolist()


def hutch_pp(seed=None):
    return trace(Whole(), num_matvecs=12, seed=seed).estimate


def density(seed=None):
    return spectral_density(Whole(), num_runs=2, lanczos_steps=4, seed=seed).density.tolist()


def power(seed=None):
    return power_iteration_one(Whole(), max_iter=3, seed=seed)[0]


def draws(function):
    """Results of ten calls without a seed, each after another `torch.manual_seed`."""
    found = []
    for own in range(10):
        torch.manual_seed(own)
        found.append(function())
    return found


same = True
for function in (hutch, hutch_pp, values, power, density):
    default = 0 if function is density else 67280421310721
    found, seeded = draws(function), [function(seed) for seed in range(10)]
    one = all(each == found[0] for each in found)
    fixed = found[0] == function(default)
    other = all(seeded[i] != seeded[j] for i in range(10) for j in range(i))
    print(f"{function.__name__:9} ten calls equal: {one}, equal to seed {default}: {fixed},",
          f"ten seeds all differ: {other}")
    same &= one and fixed and other
estimates = torch.tensor([hutch(seed) for seed in range(400)])
theory = (2 * (matrix.square().sum() - matrix.diagonal().square().sum()) / 10).sqrt().item()
print(f"trace {matrix.trace():.2f}; without a seed {hutch():.2f} each time;",
      f"400 seeds {estimates.mean():.2f} +- {estimates.std():.2f}, theory {theory:.2f}")
same &= abs(estimates.std().item() / theory - 1) < 0.2
same &= abs(estimates.mean().item() - matrix.trace().item()) < 4 * theory / 20
print("as described" if same else "changed")
sys.exit(not same)
PY
