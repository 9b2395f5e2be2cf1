#!/usr/bin/env bash
# JAX 0.10.2 on the CPU, held to SSE4.2: float32 cannot be converted to float16.
#
# `XLA_FLAGS=--xla_cpu_max_isa=SSE4_2` makes XLA generate code for processors without
# F16C. A conversion from float32 to float16 is then a call of a function of the
# compiler's runtime that is not linked in, and the first such operation ends in
#
#     jax.errors.JaxRuntimeError: INTERNAL: Failed to materialize symbols:
#     { (<xla_jit_dylib_0>, { wrapped_convert }) }
#
# Expected: the array, as with AVX2 and without the flag. So tests of float16 cannot run
# on this instruction set; bfloat16, float32 and float64 do.
#
# Needs a processor that has SSE4.2 (x86-64), Python 3.11 or later, and pip. Ends with 0
# if the behaviour is the one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.6.0 numpy==2.4.6 \
    opt_einsum==3.4.0 scipy==1.17.1 2>/dev/null

export JAX_PLATFORMS=cpu
convert() {
    echo "--xla_cpu_max_isa=$1, to $2:"
    XLA_FLAGS=--xla_cpu_max_isa=$1 "$folder/v/bin/python" - "$2" <<'PY'
import sys

import jax
import jax.numpy as jnp

try:
    print("   ", jax.__version__, jnp.ones(3, "float32").astype(sys.argv[1]))
except jax.errors.JaxRuntimeError as error:
    print("   ", jax.__version__, "JaxRuntimeError:", str(error).splitlines()[0])
    sys.exit(3)
PY
}

convert AVX2 float16
convert SSE4_2 bfloat16
status=0
convert SSE4_2 float16 || status=$?
[[ $status -eq 3 ]] || { echo "changed: the conversion ends with $status"; exit 1; }
echo "as described"
