#!/usr/bin/env bash
# JAX 0.10.2: one committed input of a jitted step makes it compile twice.
#
# An array of `jax.device_put(x, device)` is committed to the device, and one of
# `jnp.ones` is not. If some inputs of a jitted function are committed, all of its outputs
# are, those that depend on free inputs alone included. A training step that starts from
# free parameters and a state with one committed array therefore returns a state of
# another kind, and its second call compiles the whole program once more. It is not traced
# again, so that counting traces does not show it; `_cache_size()` does. From the third
# call on it is stable. On a CPU with one device nothing else tells the two apart.
#
# Expected: one compilation, as shapes, dtypes and devices are the same. So new arrays are
# placed on the device of given ones only if these are committed themselves.
#
# Seen: free inputs 1 program after two calls; mixed inputs 2 programs, and 1 trace.
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


def programs(state):
    """Return programs, traces, and what is committed, after two steps from a state."""
    traces = []

    @jax.jit
    def step(state, params):
        traces.append(1)
        return {"sum": state["sum"] + params, "count": state["count"] + 1}

    params = jnp.ones(3)
    first = step(state, params)
    second = step(first, params)
    step(second, params)
    committed = [x.committed for x in first.values()]
    return step._cache_size(), len(traces), committed


free = {"sum": jnp.ones(3), "count": jnp.ones(())}
placed = jax.device_put(jnp.ones(3), jax.devices()[0])
found = {"free": programs(free), "mixed": programs({**free, "sum": placed})}
print("jax", jax.__version__)
for name, (count, traces, committed) in found.items():
    print(f"{name:5} {count} programs, {traces} trace, outputs committed {committed}")
if found != {"free": (1, 1, [False, False]), "mixed": (2, 1, [True, True])}:
    print("changed")
    sys.exit(1)
print("as described")
PY
