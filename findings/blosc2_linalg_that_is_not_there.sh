#!/usr/bin/env bash
# blosc2 4.14.1: `linalg` has the names of the standard, and half of them do nothing.
#
# `blosc2.linalg` has `cholesky`, `eigh`, `solve`, `inv`, `qr` and `svd`. Each raises a
# NotImplementedError without a word, when it is called.
#
# Expected: that `hasattr(xp.linalg, "cholesky")` tells whether there is one. So each
# factorisation is tried on two rows before any is relied on.
#
# Seen: six names that are there, and six errors with an empty message.
#
# Needs Python 3.11 or later, pip and Linux on x86-64. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install blosc2==4.14.1 2>/dev/null

"$folder/v/bin/python" <<'PY'
import sys

import blosc2

NAMES = {"cholesky": 1, "eigh": 1, "inv": 1, "qr": 1, "solve": 2, "svd": 1}


def outcome(name):
    a = blosc2.asarray([[4.0, 2.0], [2.0, 5.0]])
    try:
        getattr(blosc2.linalg, name)(*[a] * NAMES[name])
    except NotImplementedError as error:
        return f"NotImplementedError({str(error)!r})"
    return "an answer"


print("blosc2", blosc2.__version__)
found = {name: outcome(name) for name in NAMES if hasattr(blosc2.linalg, name)}
for name, what in found.items():
    print(f"{name:9} {what}")
if found != dict.fromkeys(NAMES, "NotImplementedError('')"):
    print("changed")
    sys.exit(1)
print("as described")
PY
