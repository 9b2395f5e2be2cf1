#!/usr/bin/env bash
# JAX 0.10.2: each new shape of an operation costs more than a megabyte, and stays.
#
# Without `jit`, `jnp.add` of two vectors compiles anew for each length. What is kept of
# it, in caches of 2,048 entries and more, is not the few kilobytes of a compiled loop
# but 1.4 MB: 300 lengths keep 430 MB, and a program that sees some thousands of shapes
# (a suite of tests, batches of every length) keeps gigabytes. The same lengths again cost
# nothing. After `jax.clear_caches()` other lengths take no more memory: what was freed is
# used again. The compilation itself takes some 40 ms of processor time for each.
#
# Expected: kilobytes. So test suites call `jax.clear_caches()` between files.
#
# Seen with jaxlib 0.10.2 on x86-64: 1.42 MB for a new shape, 0.00 again, 0.01 after
# clear_caches.
#
# Needs Linux, Python 3.11 or later, and pip. Ends with 0 if the behaviour is the one
# above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6 \
    opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

JAX_PLATFORMS=cpu "$folder/v/bin/python" <<'PY'
import gc
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np

COUNT = 300


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def grown(lengths):
    vectors = [jax.device_put(np.ones(n, "float32")) for n in lengths]
    before = peak()
    for x in vectors:
        jnp.add(x, x)
    return (peak() - before) / COUNT


jnp.add(jnp.ones(3), jnp.ones(3))
new = grown(range(5, 5 + COUNT))
again = grown(range(5, 5 + COUNT))
jax.clear_caches()
gc.collect()
others = grown(range(1005, 1005 + COUNT))
print("jax", jax.__version__)
print(f"{new:.2f} MB for each new shape, {again:.2f} for each again,", end=" ")
print(f"{others:.2f} for each other one after jax.clear_caches()")
if not (new > 0.5 and again < 0.05 and others < new / 3):
    print("changed")
    sys.exit(1)
print("as described")
PY
