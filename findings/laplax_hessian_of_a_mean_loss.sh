#!/usr/bin/env bash
# laplax 0.0.2: of one loss function the Hessian and the GGN differ by the number of cases.
#
# `create_ggn_mv` calls a loss function for each case and adds, so that a function that takes
# the mean over its first axis has none to take. `create_hessian_mv` calls it once with the
# outputs of all cases. With a loss such as `lambda f, y: jnp.mean((f - y) ** 2)` or a mean
# cross entropy the Hessian is that of the mean, and the Gauss-Newton matrix that of the sum:
# one N-th of it for a linear model, for which both are the same matrix. `num_curv_samples`
# and `num_total_samples` scale both alike.
#
# By its name, `LossFn.CROSS_ENTROPY`, the GGN is right, and the Hessian raises: it takes the
# sigmoid's cross entropy, and does not add it up. `LossFn.MSE` is a sum in both.
#
# Expected: one scale for both, as they have the same arguments and both factors; so a prior
# precision that suits one posterior suits the other. The way out is a function that sums.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install laplax==0.0.2 jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 \
    numpy==2.4.6 opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_ENABLE_X64=1 JAX_PLATFORMS=cpu "$folder/v/bin/python" -W ignore <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from laplax.curv.ggn import create_ggn_mv
from laplax.curv.hessian import create_hessian_mv
from laplax.enums import LossFn

rng = np.random.default_rng(0)
w, x = jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(rng.normal(size=(5, 2)))
labels = jnp.asarray([0, 1, 2, 1, 0])
data = {"input": x, "target": jax.nn.one_hot(labels, 3)}


def model(input, params):
    return params @ input


def dense(product):
    return jnp.stack([product(row.reshape(3, 2)).reshape(-1) for row in jnp.eye(6)])


def cross_entropy(outputs, targets):
    return -jnp.sum(jax.nn.log_softmax(outputs) * targets, axis=-1)


def total(w):
    return cross_entropy(x @ w.T, data["target"]).sum()


right = jax.hessian(total)(w).reshape(6, 6)
rows = {
    "mean of a function": lambda f, y: jnp.mean(cross_entropy(f, y)),
    "sum of a function": lambda f, y: jnp.sum(cross_entropy(f, y)),
    "LossFn.CROSS_ENTROPY": LossFn.CROSS_ENTROPY,
}
found = {}
for name, loss in rows.items():
    ratios = []
    for create in (create_ggn_mv, create_hessian_mv):
        try:
            matrix = dense(create(model, w, data, loss))
        except TypeError as problem:
            ratios.append(f"{type(problem).__name__}: {problem}")
            continue
        ratio = float(jnp.vdot(matrix, right) / jnp.vdot(right, right))
        assert jnp.allclose(matrix, ratio * right)
        ratios.append(round(ratio, 12))
    found[name] = ratios
    print(f"{name}, by the Hessian of the sum: GGN {ratios[0]}, Hessian {ratios[1]}")
same = found["mean of a function"] == [1, 0.2] and found["sum of a function"] == [1, 1]
by_name = found["LossFn.CROSS_ENTROPY"]
same &= by_name[0] == 1 and "TypeError" in str(by_name[1])
print("as described" if same else "changed")
sys.exit(not same)
PY
