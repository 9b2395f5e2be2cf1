#!/usr/bin/env bash
# JAX 0.10.2: in a jaxpr, `add` and `mul` have operands of unlike shapes.
#
# The rule that one remembers is that the primitives of `lax` want operands of equal
# shapes, and that `jnp` writes a `broadcast_in_dim` before each that needs it: whoever
# reads a jaxpr may then take an operand's gradient to have the shape of the result's.
# Now a scalar goes into `mul` as it is (`f32[3,4]`, `f32[]`), and so does an array with
# axes of size one (`f32[3,4]`, `f32[3,1]`). An array of fewer axes still gets a
# `broadcast_in_dim`, but to `f32[1,4]` alone. Of the five forms below, one has operands
# of equal shapes.
#
# Expected: equal shapes in all. So what reads jaxprs (a transposition by hand, a count of
# operations, a search for scales and shifts) has to sum over the axes of size one, and
# over all axes for a scalar.
#
# Seen with jax 0.10.2: the shapes that the script prints.
#
# Needs Python 3.11 or later, and pip. Ends with 0 if the behaviour is the one above,
# else with 1.
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

x = jnp.ones((3, 4))
EXPECTED = {
    "equal": (jnp.ones((3, 4)), ((3, 4), (3, 4))),
    "scalar": (jnp.float32(2), ((3, 4), ())),
    "column": (jnp.ones((3, 1)), ((3, 4), (3, 1))),
    "row": (jnp.ones((1, 4)), ((3, 4), (1, 4))),
    "fewer axes": (jnp.ones(4), ((3, 4), (1, 4))),
}

print("jax", jax.__version__)
same = True
for name, (other, expected) in EXPECTED.items():
    for verb in (jnp.add, jnp.multiply):
        last = jax.make_jaxpr(verb)(x, other).eqns[-1]
        shapes = tuple(v.aval.shape for v in last.invars)
        same &= shapes == expected
        print(f"{name}: {last.primitive.name} of {shapes}")
if not same:
    print("changed")
    sys.exit(1)
print("as described")
PY
