#!/usr/bin/env bash
# PyTorch 2.13.0: torch.compile takes `sum` of a generator, and not `math.prod` of one.
#
# Within `torch.compile(fullgraph=True)`, `sum(len(c) for c in counts)` and
# `max(map(len, counts))` of a plain list are constants, and so is `math.prod` of a list
# comprehension. `math.prod(len(c) for c in counts)`, and that of a `map`, end in
#
#     torch._dynamo.exc.Unsupported: Failed to convert args/kwargs to proxy
#
# Expected: a constant, as no tensor takes part. So sizes of shapes that a compiled
# function computes are products of lists: `math.prod([...])`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import math
import sys

import torch

counts = [[1, 2], [3]]


def sum_of_generator(x):
    return x * sum(len(c) for c in counts)


def max_of_map(x):
    return x * max(map(len, counts))


def prod_of_list(x):
    return x * math.prod([len(c) for c in counts])


def prod_of_generator(x):
    return x * math.prod(len(c) for c in counts)


def prod_of_map(x):
    return x * math.prod(map(len, counts))


def outcome(function):
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    try:
        return compiled(torch.ones(())).item()
    except torch._dynamo.exc.Unsupported as error:
        return f"Unsupported: {str(error).splitlines()[0]}"


print("torch", torch.__version__)
functions = (sum_of_generator, max_of_map, prod_of_list, prod_of_generator, prod_of_map)
found = [outcome(function) for function in functions]
for function, result in zip(functions, found, strict=True):
    print(f"{function.__name__:18} {result}")
right = found[:3] == [3.0, 2.0, 2.0]
if not (right and all(str(result).startswith("Unsupported") for result in found[3:])):
    print("changed")
    sys.exit(1)
print("as described")
PY
