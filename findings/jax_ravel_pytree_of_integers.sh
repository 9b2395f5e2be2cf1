#!/usr/bin/env bash
# JAX 0.10.2: `ravel_pytree` and back changes integers beside floats, without a word.
#
# A tree of several dtypes is made one vector of the dtype that they promote to, which is
# float32 for integers of 32 bits and float32. That has 24 bits. The function that comes with
# the vector restores the dtypes, so that nothing tells of the digits that are lost: a
# counter above 2**24 is even, and a key of random numbers is another key.
#
# Expected: what is put back together is what was taken apart, as it is for trees of one
# dtype; or an error. So a state that is sent or saved as one vector draws other numbers
# afterwards. The way out is a vector for each dtype, or a vector of bytes.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6 \
    opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_PLATFORMS=cpu "$folder/v/bin/python" -W error <<'PY'
import sys

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

key = jax.random.split(jax.random.PRNGKey(123))[0]
state = {"key": key, "step": jnp.asarray(2**24 + 1), "factor": jnp.eye(2)}
vector, restore = ravel_pytree(state)
back = restore(vector)
vector_alone, restore_alone = ravel_pytree(state["step"])

print("vector:", vector.dtype)
print("step:", int(state["step"]), "comes back as", int(back["step"]), back["step"].dtype)
print("key:", key.tolist(), "comes back as", back["key"].tolist(), back["key"].dtype)
draws = [float(jax.random.normal(own, ())) for own in (key, back["key"])]
print("it draws", draws[0], "and then", draws[1])
lost = int(back["step"]) == 2**24 and back["key"].tolist() != key.tolist()
dtypes = all(back[name].dtype == state[name].dtype for name in state)
alone = int(restore_alone(vector_alone)) == 2**24 + 1
same = lost and dtypes and alone and draws[0] != draws[1]
print("as described" if same else "changed")
sys.exit(not same)
PY
