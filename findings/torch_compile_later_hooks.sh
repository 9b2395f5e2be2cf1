#!/usr/bin/env bash
# PyTorch 2.13.0: a hook that is added after a compiled model ran is never called.
#
# `torch.compile(model)` traces the hooks that layers have at the first call. One that
# `register_forward_hook` adds to a layer without hooks afterwards is not run by the
# compiled model, without an error or a warning, however often that is called. One that was
# there at the first call and is removed is noticed. The model itself, not compiled, runs
# the hooks that it has.
#
# Expected: hooks that are looked up at each call, or a new trace, as for a change of an
# attribute. So statistics of a model that was compiled and warmed up before are those of
# no data. The way out is to add hooks before the first call, `torch.compiler.reset()`, or
# `torch._dynamo.config.skip_nnmodule_hook_guards = False` before it is compiled.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(5, 3)


def rows_seen(compiled, then):
    """How many rows a hook sees that is added, or removed, after a first call."""
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    call = torch.compile(model, backend="eager") if compiled else model
    seen = []

    def hook(layer, inputs, outputs):
        seen.append(len(inputs[0]))

    if then == "added":
        call(x)
        model[2].register_forward_hook(hook)
    elif then == "removed":
        handle = model[2].register_forward_hook(hook)
        call(x)
        handle.remove()
    else:
        model[2].register_forward_hook(hook)
        call(x)
    seen.clear()
    for _ in range(3):
        call(x)
    return sum(seen)


found = {
    (then, compiled): rows_seen(compiled, then)
    for then in ("kept", "added", "removed")
    for compiled in (False, True)
}
torch._dynamo.config.skip_nnmodule_hook_guards = False
guarded = [rows_seen(True, then) for then in ("added", "removed")]
for (then, compiled), rows in found.items():
    print(f"{then:8} compiled {compiled!s:6} rows seen in three calls of five: {rows}")
print("with guards of hooks, added and removed:", guarded)
expected = {
    ("kept", False): 15,
    ("kept", True): 15,
    ("added", False): 15,
    ("added", True): 0,
    ("removed", False): 0,
    ("removed", True): 0,
}
same = found == expected and guarded == [15, 0]
print("as described" if same else "changed")
sys.exit(not same)
PY
