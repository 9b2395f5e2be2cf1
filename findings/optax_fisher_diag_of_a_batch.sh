#!/usr/bin/env bash
# optax 0.2.8: `second_order.fisher_diag` of a batch squares the mean gradient.
#
# `fisher_diag(negative_log_likelihood, params, inputs, targets)` gives, by its docstring,
# the diagonal of the observed Fisher matrix. It is the square of one gradient, that of the
# loss of all inputs. The square of a mean is not the mean of squares: of a batch the result
# is smaller, of independent gradients of mean zero by about the number of cases, and it is
# zero where the loss has its minimum. There is no error. (It is deprecated since 0.2.7.)
#
# Expected: the mean over the cases of their squared gradients, which is the diagonal of the
# empirical Fisher matrix, whether the likelihood of a batch is a mean or a sum, up to a
# factor. Of one case the result is that.
#
# Seen: for a least-squares fit of 64 cases the Fisher matrix has a diagonal near the
# residual variance, and `fisher_diag` is zero to rounding at the solution. The way out is
# `jax.vmap` of it over the cases, and the mean of what comes out.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install optax==0.2.8 absl-py==2.5.1 jax==0.10.2 jaxlib==0.10.2 \
    ml_dtypes==0.6.0 numpy==2.4.6 opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_ENABLE_X64=1 JAX_PLATFORMS=cpu "$folder/v/bin/python" -W ignore <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from optax.second_order import fisher_diag

rng = np.random.default_rng(0)
inputs = rng.normal(size=(64, 3))
targets = inputs.sum(1) + rng.normal(size=64)


def mean_loss(params, inputs, targets):
    return 0.5 * jnp.mean((inputs @ params - targets) ** 2)


def compare(params):
    """What the function gives, by batch and by case, and the mean of squares by hand."""
    batch = fisher_diag(mean_loss, params, inputs, targets)
    each = jax.vmap(fisher_diag, (None, None, 0, 0))
    by_case = each(mean_loss, params, inputs[:, None], targets[:, None]).mean(0)
    residuals = inputs @ params - targets
    right = np.mean((residuals[:, None] * inputs) ** 2, 0)
    squared_mean = np.mean(residuals[:, None] * inputs, 0) ** 2
    return [np.asarray(v) for v in (batch, by_case, right, squared_mean)]


solution = np.linalg.lstsq(inputs, targets, rcond=None)[0]
same = True
for name, params in (("at the solution", solution), ("at zero", np.zeros(3))):
    batch, by_case, right, squared_mean = compare(params)
    print(f"{name}: of the batch {batch}, of each case, then averaged {by_case}")
    print(f"  mean of squared gradients {right}, squared mean gradient {squared_mean}")
    same &= np.allclose(by_case, right) and np.allclose(batch, squared_mean)
    if params is solution:
        same &= bool((batch < 1e-25).all() and (right > 0.1).all())
print("as described" if same else "changed")
sys.exit(not same)
PY
