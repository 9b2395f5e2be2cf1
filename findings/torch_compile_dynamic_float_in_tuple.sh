#!/usr/bin/env bash
# PyTorch 2.13.0: within torch.compile(dynamic=True) a float of an object is in no tuple.
#
# With `dynamic=True` a compiler takes the floats that an object holds, as those of a
# frozen dataclass, for inputs whose values it does not know. `-1.0 == own` of one of them
# is tested, as it should be, and so is `self.powers.index(-1.0)`. But
# `-1.0 in self.powers`, and `(-1.0, "a") in self.pairs`, are False whatever is there: no
# error, no warning, no graph break, and the other branch is compiled.
#
# Expected: what Python says, or an error with `fullgraph=True`. So compare one by one:
# `any(-1.0 == own for own in self.powers)`.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Options:
    powers: tuple[float, ...] = (-1.0, -0.5)
    pairs: tuple[tuple[float, str], ...] = ((-1.0, "a"),)


options = Options()


def in_tuple(x):
    return x + 1 if -1.0 in options.powers else x


def in_pairs(x):
    return x + 1 if (-1.0, "a") in options.pairs else x


def one_by_one(x):
    return x + 1 if any(own == -1.0 for own in options.powers) else x


def by_index(x):
    return x + 1 if options.powers.index(-0.5) == 1 else x


def outcome(function, **how):
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager", **how)
    return compiled(torch.zeros(())).item()


print("torch", torch.__version__)
functions = (in_tuple, in_pairs, one_by_one, by_index)
for function in functions:
    found = outcome(function), outcome(function, dynamic=True)
    print(f"{function.__name__:11} compiled {found[0]}, with dynamic=True {found[1]}")
static = [outcome(function) for function in functions]
dynamic = [outcome(function, dynamic=True) for function in functions]
if static != [1.0] * 4 or dynamic != [0.0, 0.0, 1.0, 1.0]:
    print("changed")
    sys.exit(1)
print("as described")
PY
