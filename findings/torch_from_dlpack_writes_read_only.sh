#!/usr/bin/env bash
# PyTorch 2.13.0, JAX 0.10.2, NumPy 2.4.6: `from_dlpack` writes what is read-only.
#
# `torch.from_dlpack(x)` shares the memory of an array of NumPy or JAX, and what is changed
# in place in the tensor is changed there: in an array of NumPy whose `flags.writeable` is
# False, and in one of JAX, of which none may change. There is no error and no warning.
# `np.from_dlpack` of both gives an array that is read-only, and `torch.from_numpy` warns.
#
# Expected: that DLPack's flag for read-only data is kept, or refused. So an optimizer that
# steps on tensors which were taken over from JAX changes parameters that JAX holds
# elsewhere under other names: the copy that an average or a checkpoint keeps, if it is the
# same array, as it is after `tree.map(lambda v: v, params)` and `jnp.asarray(v)`.
#
# The way out is `.clone()`, or `torch.from_dlpack(x, copy=True)`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 jax==0.10.2 \
    jaxlib==0.10.2 ml_dtypes==0.6.0 opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_PLATFORMS=cpu "$folder/v/bin/python" - <<'PY'
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import torch

frozen = np.ones(3)
frozen.flags.writeable = False
of_jax = jnp.ones(3) * 1
kept = jax.tree.map(lambda v: v, {"average": jnp.asarray(of_jax)})

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for x in (frozen, of_jax):
        torch.from_dlpack(x).add_(1)
print("NumPy, read-only:", frozen, "JAX:", of_jax, "kept by JAX:", kept["average"])
print("warnings:", len(caught))
same = frozen.tolist() == [2, 2, 2] and of_jax.tolist() == [2, 2, 2] and not caught
same &= kept["average"].tolist() == [2, 2, 2] and not frozen.flags.writeable

by_numpy = [np.from_dlpack(x).flags.writeable for x in (frozen, of_jax)]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    torch.from_numpy(frozen)
print("np.from_dlpack gives writeable arrays:", by_numpy)
print("torch.from_numpy warns:", len(caught) > 0)
same &= by_numpy == [False, False] and len(caught) == 1

torch.from_dlpack(of_jax, copy=True).add_(1)
torch.from_dlpack(of_jax).clone().add_(1)
print("with copies:", of_jax)
same &= of_jax.tolist() == [2, 2, 2]
print("as described" if same else "changed")
sys.exit(not same)
PY
