#!/usr/bin/env bash
# PyTorch 2.13.0 on Python 3.11: a compiled function cannot read a `cached_property` first.
#
# A plain `property` of an object is traced by `torch.compile(..., fullgraph=True)`. On
# Python 3.11 a `functools.cached_property` is not, as it takes a lock: "Dynamo does not
# know how to enter a `RLock` context manager". Where the value was read once before, so
# that it is stored already, the same function compiles. (Python 3.12 has no lock there.)
#
# Expected: both compile. So read such values of a frozen description once, eagerly.
#
# Seen: property 3.0, cached_property Unsupported (RLock), read before 3.0.
#
# Needs Python 3.11 and pip. Ends with 0 if the behaviour is the one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

cat >"$folder/shapes.py" <<'PY'
import sys
from functools import cached_property

import torch


class Plain:
    """The size is computed at each look."""

    @property
    def size(self):
        return 3


class Stored:
    """The size is computed at the first look."""

    @cached_property
    def size(self):
        return 3


def scaled(x, shape):
    return x * shape.size


def compiled(shape):
    """Return the product by the compiled function, or the error's name."""
    torch._dynamo.reset()
    function = torch.compile(scaled, fullgraph=True, backend="eager")
    try:
        return function(torch.ones(()), shape).item()
    except torch._dynamo.exc.Unsupported as error:
        return "Unsupported" + (" (RLock)" if "RLock" in str(error) else "")


read = Stored()
read.size
found = [compiled(Plain()), compiled(Stored()), compiled(read)]
print("torch", torch.__version__, "Python", sys.version.split()[0])
for name, value in zip(("property", "cached_property", "read before"), found):
    print(f"{name:16} {value}")
if found != [3.0, "Unsupported (RLock)", 3.0]:
    print("changed")
    sys.exit(1)
print("as described")
PY
"$folder/v/bin/python" "$folder/shapes.py"
