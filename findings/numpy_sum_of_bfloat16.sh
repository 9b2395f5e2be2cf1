#!/usr/bin/env bash
# NumPy 2.4.6 with ml_dtypes 0.6.0: the mean of 4,097 ones in bfloat16 is 0.0625.
#
# NumPy adds float16 in pairs, and takes means of float16 in float32. Neither is done for
# the dtypes of ml_dtypes: a sum of ones in bfloat16 stops at 256, whose neighbour is 258,
# and the mean divides that by 4,096. `numpy.isdtype` and `numpy.finfo`, which a library
# would tell such a dtype by, raise on it; `ml_dtypes.finfo` does not.
#
# Expected: one, as for float16. So such arrays are cast to float32 before anything is
# reduced.
#
# Seen: a sum of 256 and a mean of 0.0625; float16 has a mean of 1; both functions raise.
#
# Needs Python 3.11 or later, and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install ml_dtypes==0.6.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" <<'PY'
import sys

import ml_dtypes
import numpy as np


def raises(function, *args):
    try:
        function(*args)
    except (TypeError, ValueError):
        return True
    return False


short, half = (np.ones(4097, kind) for kind in (ml_dtypes.bfloat16, np.float16))
found = {
    "sum": float(short.sum()),
    "mean": float(short.mean()),
    "mean of float16": float(half.mean()),
    "isdtype raises": raises(np.isdtype, short.dtype, "real floating"),
    "finfo raises": raises(np.finfo, short.dtype),
}
print("numpy", np.__version__, "ml_dtypes", ml_dtypes.__version__)
for name, value in found.items():
    print(f"{name:16} {value}")
if list(found.values()) != [256.0, 0.0625, 1.0, True, True]:
    print("changed")
    sys.exit(1)
print("as described")
PY
