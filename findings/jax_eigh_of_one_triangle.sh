#!/usr/bin/env bash
# JAX 0.10.2: `eigh` reads both triangles, whatever `lower` and `UPLO` say.
#
# NumPy and SciPy read one triangle of a symmetric matrix, so that what a BLAS routine such
# as SYRK leaves, a triangle and zeros, is a valid input. `jax.scipy.linalg.eigh` has the
# same `lower=True`, by which "only the lower portion" is accessed, and
# `jax.numpy.linalg.eigh` the same `UPLO`. Both take the mean of the matrix and its
# transpose first: of a triangle and zeros that is half the matrix off its diagonal, with
# other eigenvalues, and there is no error. So do `jnp.linalg.cholesky` and `eigvalsh`.
#
# Expected: the result of NumPy's and SciPy's function of this name and these arguments, as
# `cholesky` and `cho_factor` of `jax.scipy.linalg` give it, which do read one triangle. The
# docstring of `jnp.linalg.eigh` says that both are used, two lines below that of `UPLO`.
#
# The way out is `symmetrize_input=False`, which `jax.scipy.linalg.eigh` has not, or the
# whole matrix: `lower + lower.T` less its diagonal.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6 \
    opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_ENABLE_X64=1 JAX_PLATFORMS=cpu "$folder/v/bin/python" -W error <<'PY'
import sys

import jax.numpy as jnp
import jax.scipy.linalg as jsp
import numpy as np
import scipy.linalg as sp

root = np.random.default_rng(0).normal(size=(4, 4))
matrix = root @ root.T + np.eye(4)
lower = np.tril(matrix)
mean = (lower + lower.T) / 2
cases = {
    "jax.scipy.linalg.eigh(lower=True)": (
        lambda a: jsp.eigh(a, lower=True)[0],
        lambda a: sp.eigh(a, lower=True)[0],
        "mean",
    ),
    'jnp.linalg.eigh(UPLO="L")': (
        lambda a: jnp.linalg.eigh(a, UPLO="L")[0],
        lambda a: np.linalg.eigh(a, UPLO="L")[0],
        "mean",
    ),
    'jnp.linalg.eigvalsh(UPLO="L")': (
        lambda a: jnp.linalg.eigvalsh(a, UPLO="L"),
        lambda a: np.linalg.eigvalsh(a, UPLO="L"),
        "mean",
    ),
    "jnp.linalg.cholesky": (jnp.linalg.cholesky, np.linalg.cholesky, "mean"),
    "jax.scipy.linalg.cholesky(lower=True)": (
        lambda a: jsp.cholesky(a, lower=True),
        lambda a: sp.cholesky(a, lower=True),
        "matrix",
    ),
    "jax.scipy.linalg.cho_factor(lower=True)": (
        lambda a: jnp.tril(jsp.cho_factor(a, lower=True)[0]),
        lambda a: np.tril(sp.cho_factor(a, lower=True)[0]),
        "matrix",
    ),
    "jnp.linalg.eigh(symmetrize_input=False)": (
        lambda a: jnp.linalg.eigh(a, symmetrize_input=False)[0],
        lambda a: np.linalg.eigh(a)[0],
        "matrix",
    ),
}
same = True
for name, (of_jax, of_numpy, wanted) in cases.items():
    assert np.allclose(of_numpy(lower), of_numpy(matrix))  # one triangle is enough there
    assert np.allclose(of_jax(matrix), of_numpy(matrix))  # and the whole matrix for both
    found = np.asarray(of_jax(lower))
    kinds = {"matrix": of_numpy(matrix), "mean": of_numpy(mean)}
    kind = [kind for kind, right in kinds.items() if np.allclose(found, right)]
    print(f"{name:40} of the lower triangle is that of the {kind[0]}")
    same &= kind == [wanted]
print("eigenvalues by SciPy:", sp.eigh(lower, lower=True)[0])
print("eigenvalues by JAX:  ", np.asarray(jsp.eigh(lower, lower=True)[0]))
print("as described" if same else "changed")
sys.exit(not same)
PY
