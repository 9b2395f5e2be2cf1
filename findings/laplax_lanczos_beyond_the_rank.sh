#!/usr/bin/env bash
# laplax 0.0.2: a low-rank approximation of more than the rank is larger than the matrix.
#
# `lanczos_lowrank` takes as many steps as `rank` says. Where the Krylov space ends before,
# one step after the rank of the matrix, it goes on with the last vector again and again. Each of
# these has a Rayleigh quotient of its own in `S` and the same column in `U`, which has no
# orthonormal columns then: `U S U^T` counts that direction once for each step. Nothing
# tells of it. With `rank` at the rank of the matrix plus one, it is exact.
#
# Expected: the matrix, as of any rank that is large enough. The default is 20; a
# Gauss-Newton matrix of few cases and outputs has less. So the evidence and the variance
# that are computed with it are of another matrix. The way out is a check that `U^T U` is the
# identity, or fewer steps.
#
# Seen: of a matrix of rank 3 the trace is 1.2 times that of the matrix with 5 steps, 2.0
# times with 10 and 3.7 times with 20, in float64. Without JAX's 64 bits it depends on the
# size of the entries: rounding of large ones makes new directions.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6 \
    opt_einsum==3.4.0 scipy==1.17.1 jaxtyping==0.3.11 laplax==0.0.2 2>/dev/null

JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 "$folder/v/bin/python" -W ignore <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from laplax.curv.lanczos import lanczos_lowrank

jacobian = jnp.asarray(np.random.default_rng(0).normal(size=(3, 30)))
matrix = jacobian.T @ jacobian

errors, repeated = {}, {}
for rank in (3, 4, 5, 10, 20):
    key = jax.random.PRNGKey(0)
    terms = lanczos_lowrank(lambda v: matrix @ v, key=key, layout=30, rank=rank)
    found = (terms.U * terms.S) @ terms.U.T
    errors[rank] = float(jnp.linalg.norm(found - matrix) / jnp.linalg.norm(matrix))
    repeated[rank] = float(jnp.abs(terms.U.T @ terms.U - jnp.eye(rank)).max())
    ratio = float(jnp.trace(found) / jnp.trace(matrix))
    print(f"rank {rank:2}: error {errors[rank]:.1e}, trace {ratio:.2f} times that of the")
    print(f"         matrix, U^T U is {repeated[rank]:.0e} off the identity")
exact = errors[4] < 1e-10 and max(repeated[3], repeated[4]) < 1e-10
wrong = 0.1 < errors[5] < errors[10] < errors[20] and min(repeated[5], repeated[20]) > 0.5
print("as described" if exact and wrong else "changed")
sys.exit(not (exact and wrong))
PY
