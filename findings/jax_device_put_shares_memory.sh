#!/usr/bin/env bash
# JAX 0.10.2: `device_put` of a NumPy array may be that array, and changes with it.
#
# On the CPU `jax.device_put(a)` takes the memory of a NumPy array as it is if it begins at
# a multiple of 64 bytes, and copies it otherwise. So what is changed in place afterwards,
# as a running average is, changes in the array of JAX as well, or does not, by where the
# allocator put the array: of arrays of one size and one program some do, and others do not.
# `may_alias=False`, which is said to force a copy, does not; nor does a device.
#
# Expected: arrays of JAX never change, and the docstring speaks of a copy. `jnp.array` and
# `jnp.asarray` copy, and so does a function under `jit`: they are the way out.
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
import numpy as np


def ones(offset):
    """Float32 ones whose memory begins `offset` bytes after a multiple of 64."""
    buffer = np.zeros(4 * 1000 + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    array = buffer[start : start + 4 * 1000].view(np.float32)
    array[:] = 1
    return array


def shared(function, offset):
    """Whether the array of JAX changes when that of NumPy is halved in place."""
    array = ones(offset)
    placed = jax.block_until_ready(function(array))
    array *= 0.5
    return float(placed[0]) == 0.5


functions = {
    "device_put": jax.device_put,
    "device_put(may_alias=False)": lambda a: jax.device_put(a, may_alias=False),
    "device_put to a device": lambda a: jax.device_put(a, jax.devices()[0]),
    "device_put of a tree": lambda a: jax.device_put({"factor": a})["factor"],
    "jnp.asarray": jnp.asarray,
    "jnp.array": jnp.array,
    "jit": jax.jit(lambda a: a),
}
same = True
for name, function in functions.items():
    found = shared(function, 0), shared(function, 16)
    print(f"{name:28} aligned: {found[0]!s:6} at 16 bytes: {found[1]}")
    same &= found == (name.startswith("device_put"), False)
print("as described" if same else "changed")
sys.exit(not same)
PY
