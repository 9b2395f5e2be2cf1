#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.save_file` writes wrong numbers of a Fortran array.
#
# The numbers of an array in Fortran order, or of a transposed view, are written in the
# order of the memory under the shape of the array, without an error: a square matrix
# comes back transposed. `safetensors.torch` refuses such tensors ("non contiguous").
#
# Expected: what is loaded equals what was saved, or an error.
#
# Seen: [[0, 1, 2], [3, 4, 5]] in Fortran order comes back as [[0, 3, 1], [4, 2, 5]].
# The way out is `numpy.ascontiguousarray`.
#
# Needs Python 3.11 or later, and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install safetensors==0.8.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" - "$folder/x.safetensors" <<'PY'
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

path = sys.argv[1]
x = np.arange(6).reshape(2, 3)


def stored(array):
    save_file({"x": array}, path)
    return load_file(path)["x"]


plain, fortran = stored(x), stored(np.asfortranarray(x))
square = np.arange(4).reshape(2, 2)
turned = stored(square.T)
print("C order:", plain.tolist(), "Fortran order:", fortran.tolist())
print("transposed view:", square.T.tolist(), "comes back as", turned.tolist())
same = np.array_equal(plain, x)
wrong = fortran.tolist() == [[0, 3, 1], [4, 2, 5]] and np.array_equal(turned, square)
sys.exit(not (same and wrong))
PY
echo "safetensors still writes wrong numbers of arrays in Fortran order"
