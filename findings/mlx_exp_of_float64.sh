#!/usr/bin/env bash
# MLX 0.32.4 on the CPU: `exp` and `sin` of float64 have seven digits.
#
# An array of float64 goes through `mlx.core.exp`, and the result has dtype float64. But
# its numbers are those of the polynomial for float32. `log`, `expm1`, `tanh` and `sqrt`
# of the same array have all their digits, and so nothing but a comparison tells.
#
# Expected: a relative error of 1e-16 or so.
#
# Seen: 1.6e-7 for `exp`, 7.6e-8 for `sin`, 0 for `expm1`.
#
# Needs Python 3.11 or later, pip and Linux on x86-64. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install 'mlx[cpu]==0.32.4' numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" <<'PY'
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
x = np.linspace(0.1, 2, 101)
given = mx.array(x, dtype=mx.float64)
off = {}
print("mlx", mx.__version__)
for name in ("exp", "sin", "expm1", "log", "tanh"):
    found = getattr(mx, name)(given)
    assert found.dtype == mx.float64
    off[name] = np.abs(np.array(found) / getattr(np, name)(x) - 1).max()
    print(f"{name:6} {off[name]:.1e}")
few = all(1e-9 < off[name] < 1e-6 for name in ("exp", "sin"))
all_digits = all(off[name] < 1e-14 for name in ("expm1", "log", "tanh"))
if not (few and all_digits):
    print("changed")
    sys.exit(1)
print("as described")
PY
