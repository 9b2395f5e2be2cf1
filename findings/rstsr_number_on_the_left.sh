#!/usr/bin/env bash
# rstsr-faer-py 0.10.0: no operator takes a number on its left.
#
# `a - 1.0` is an array, and `1.0 - a` a TypeError: each reflected operator hands
# `reflected=` by its name to a method that takes it by its place alone. The namespace
# follows the array API standard otherwise, and has every method: looking for
# `__rsub__` does not tell.
#
# Expected: arrays, as the standard has it for scalars of Python on either side. So an
# operator is tried, and not only looked for.
#
# Seen: four arrays with the number on the right, and four errors with it on the left.
#
# Needs Python 3.11 or later, pip and Linux on x86-64. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install rstsr-faer-py==0.10.0 2>/dev/null

"$folder/v/bin/python" <<'PY'
import operator
import sys
from importlib.metadata import version

import rstsr_faer.api as xp


def outcome(function, *args):
    try:
        return type(function(*args)).__name__
    except TypeError as error:
        return f"TypeError: {error}"


a = xp.asarray([1.0, 2.0])
operators = [operator.add, operator.sub, operator.mul, operator.truediv]
right = [outcome(function, a, 4.0) for function in operators]
left = [outcome(function, 4.0, a) for function in operators]
print("rstsr-faer-py", version("rstsr-faer-py"))
for function, first, second in zip(operators, right, left):
    print(f"{function.__name__:8} a op 4: {first:6} 4 op a: {second}")
if right != ["Array"] * 4 or not all(x.startswith("TypeError") for x in left):
    print("changed")
    sys.exit(1)
print("as described")
PY
