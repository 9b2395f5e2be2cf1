#!/usr/bin/env bash
# array-api-compat 1.16.0 with PyTorch 2.13.0: `unstack` does not go through `vmap`.
#
# The standard's `unstack(x)` gives the slices of an array along an axis. PyTorch's own
# `x.unbind()` does the same, and both `stack` and `unbind` go through `torch.func.vmap`.
# `array_api_compat.torch.unstack` raises there: "Batching rule not implemented for
# aten::moveaxis.int". It moves the axis to the front by `torch.moveaxis`, which has no
# rule for a batch with plain integers, though `torch.movedim` has one and does the same.
#
# Expected: what goes through with PyTorch's own functions does so with the standard's.
# Index instead, or call `unbind`.
#
# Seen: unbind 2.0, movedim 2.0, moveaxis and unstack RuntimeError.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 array-api-compat==1.16.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import array_api_compat
import array_api_compat.torch as xp
import torch

WAYS = {
    "unbind": lambda x: sum(x.unbind()),
    "movedim": lambda x: torch.movedim(x, 0, 0).sum() * 2 / x.shape[0],
    "moveaxis": lambda x: torch.moveaxis(x, 0, 0).sum() * 2 / x.shape[0],
    "unstack": lambda x: sum(xp.unstack(x)),
}
print("torch", torch.__version__, "array-api-compat", array_api_compat.__version__)
found = {}
for name, way in WAYS.items():
    try:
        found[name] = torch.func.vmap(way)(torch.ones(3, 2))[0].item()
        print(f"{name:9} {found[name]}")
    except RuntimeError as error:
        found[name] = "no rule" if "moveaxis" in str(error) else "another error"
        print(f"{name:9} {type(error).__name__}: {str(error)[:62]}")
expected = {"unbind": 2.0, "movedim": 2.0, "moveaxis": "no rule", "unstack": "no rule"}
if found != expected:
    print("changed")
    sys.exit(1)
print("as described")
PY
