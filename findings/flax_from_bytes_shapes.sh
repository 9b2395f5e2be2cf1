#!/usr/bin/env bash
# flax 0.12.8: `from_bytes` gives the shapes and dtypes of the bytes, not of the target.
#
# `serialization.from_bytes(target, encoded)` restores a tree after the pattern of `target`.
# A name that is missing raises; one that the target has not is left out. Shapes and dtypes
# are not compared: a leaf of another shape, or of another dtype, comes back as it was stored,
# without a word, and as a NumPy array. The documentation of `from_state_dict`, which does the
# work, says that of the target only structure, shapes and dtypes are used, and that it is
# there so that assertions on them can be added.
#
# Expected: an error that names the leaf, as for a missing name. So weights of another
# architecture load, and fail or broadcast later, and float16 weights replace float32. Compare
# shapes and dtypes with those of the target.
#
# Seen: for `nn.Dense(4)` with 3 inputs and weights of one with 5, and for a bias of one
# entry in a bias of four, with which the model runs.
#
# Needs Python 3.11 and pip. Ends with 0 if the behaviour is the one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 2>/dev/null

JAX_PLATFORMS=cpu "$folder/v/bin/python" -W ignore - <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

target = {"bias": jnp.zeros(4), "kernel": jnp.zeros((3, 4))}


def restored(stored):
    """What comes back for the target, as shapes and dtypes, or the error."""
    try:
        found = serialization.from_bytes(target, serialization.to_bytes(stored))
    except ValueError as error:
        return type(error).__name__
    exact = all(np.array_equal(found[name], stored[name]) for name in target)
    return {name: (leaf.shape, str(leaf.dtype)) for name, leaf in found.items()}, exact


found = {
    "the same": restored({"bias": np.ones(4, "f4"), "kernel": np.ones((3, 4), "f4")}),
    "5 inputs": restored({"bias": np.ones(4, "f4"), "kernel": np.ones((5, 4), "f4")}),
    "bias of one": restored({"bias": np.ones(1, "f4"), "kernel": np.ones((3, 4), "f4")}),
    "float16": restored({"bias": np.ones(4, "f2"), "kernel": np.ones((3, 4), "f2")}),
    "no bias": restored({"kernel": np.ones((3, 4), "f4")}),
    "a name more": restored({**target, "scale": np.ones(4, "f4")}),
}
for name, value in found.items():
    print(f"{name:12} {value}")
short = serialization.from_bytes(
    target, serialization.to_bytes({"bias": np.ones(1), "kernel": np.ones((3, 4))})
)
outputs = jnp.ones((2, 3)) @ short["kernel"] + short["bias"]
print("the model runs with the bias of one entry:", outputs.shape)
same = (
    found["the same"] == ({"bias": ((4,), "float32"), "kernel": ((3, 4), "float32")}, True)
    and found["5 inputs"] == ({"bias": ((4,), "float32"), "kernel": ((5, 4), "float32")}, True)
    and found["bias of one"] == ({"bias": ((1,), "float32"), "kernel": ((3, 4), "float32")}, True)
    and found["float16"] == ({"bias": ((4,), "float16"), "kernel": ((3, 4), "float16")}, True)
    and found["a name more"] == found["the same"]
    and found["no bias"] == "ValueError"
    and jax.tree.structure(short) == jax.tree.structure(target)
)
print("as described" if same else "changed")
sys.exit(not same)
PY
