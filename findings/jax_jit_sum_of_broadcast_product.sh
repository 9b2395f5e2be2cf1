#!/usr/bin/env bash
# JAX 0.10.2 on the CPU: under jit, a sum of products loses digits that it has without.
#
# `jnp.sum(a * b, axis=0)` of float32, a of 400,001 x 3 and b of 400,001 x 1, is within
# three units of roundoff (2**-24, relative) op by op. Under `jax.jit` the same line is
# off by two thousand: XLA takes it for a product of matrices and adds the rows one after
# another. With b of 400,001 x 3, where nothing is broadcast, the compiled sum is exact to
# three units as well. `einsum` of the two, and the product `a.T @ b`, lose more still.
#
# Expected: a compiled sum that is as good as the one op by op. So weighted means and
# borders of biases must not be written as such a sum where there are many rows.
#
# Seen with jaxlib 0.10.2 on x86-64 (the number changes with the processor, its size does
# not): 2.5 op by op, 2153 under jit, 2.5 under jit where nothing is broadcast.
#
# Needs Python 3.11 or later, and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6 \
    opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_PLATFORMS=cpu "$folder/v/bin/python" <<'PY'
import sys

import jax
import jax.numpy as jnp

ROWS = 400_001
a = jnp.full((ROWS, 3), 0.7, "float32")
b = jnp.full((ROWS, 3), 0.9, "float32")
right = ROWS * float(a[0, 0]) * float(b[0, 0])


def weighted(a, b):
    return jnp.sum(a * b, axis=0)


def units(total):
    return abs(float(total[0]) - right) / right * 2**24


found = {
    "op by op, b broadcast": units(weighted(a, b[:, :1])),
    "jit, b broadcast": units(jax.jit(weighted)(a, b[:, :1])),
    "jit, nothing broadcast": units(jax.jit(weighted)(a, b)),
}
print("jax", jax.__version__)
for name, error in found.items():
    print(f"{name:24} {error:10.1f} units of roundoff")
eager, compiled, plain = found.values()
if not (eager < 10 and plain < 10 and compiled > 100):
    print("changed")
    sys.exit(1)
print("as described")
PY
