#!/usr/bin/env bash
# PyTorch 2.13.0: forward-mode derivatives raise where warnings are errors.
#
# `torch.autograd.forward_ad` and `torch.func.jvp` are not deprecated. The first operation
# on dual tensors loads rules that PyTorch makes by its own `torch.jit.script`, which
# warns since 2.13 that it is deprecated. So in a program or a suite of tests whose
# warnings are errors, the first derivative ends in
#
#     DeprecationWarning: `torch.jit.script` is deprecated.
#
# and so does the next one. Importing torch itself does not warn. Once the rules are loaded
# with this warning ignored, forward mode works, and warns no more.
#
# Expected: no warning of PyTorch's own to its users. So what needs forward mode loads the
# rules once, quietly: `import torch._decomp.decompositions_for_jvp`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 2>/dev/null

"$folder/v/bin/python" <<'PY'
import importlib
import sys
import warnings

import torch
from torch.func import jvp

warnings.simplefilter("error")
ones = torch.ones(3)


def outcome():
    try:
        return str(jvp(torch.sin, (ones,), (ones,))[1].allclose(torch.cos(ones)))
    except DeprecationWarning as warning:
        return f"DeprecationWarning: {str(warning).split('. ')[0]}"


found = [outcome(), outcome()]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("torch._decomp.decompositions_for_jvp")
found.append(outcome())
print("torch", torch.__version__)
for when, result in zip(("first", "second", "loaded quietly"), found, strict=True):
    print(f"{when:15} {result}")
message = "DeprecationWarning: `torch.jit.script` is deprecated"
if found != [message, message, "True"]:
    print("changed")
    sys.exit(1)
print("as described")
PY
