#!/usr/bin/env bash
# PyTorch 2.13.0: `vector_to_parameters` makes the parameters views of the vector.
#
# `torch.nn.utils.vector_to_parameters(vector, parameters)` reads as the inverse of
# `parameters_to_vector`, which copies. It copies nothing: each parameter's `data` becomes a
# slice of the vector. A later in-place operation on the vector changes the model, a step
# of the optimizer changes the vector, and two models filled from one vector share their
# parameters from then on. So a line search that keeps the vector to return to has lost it
# after one step.
#
# Expected: numbers are copied into the parameters, as `load_state_dict` does.
#
# Seen: all three. The way out is `vector_to_parameters(vector.clone(), parameters)`.
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
from torch.nn.utils import parameters_to_vector, vector_to_parameters

model, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
vector = torch.zeros(3)
vector_to_parameters(vector, model.parameters())
vector_to_parameters(vector, other.parameters())

vector.add_(1)
by_vector = model.weight.tolist()
model(torch.ones(1, 2)).sum().backward()
torch.optim.SGD(model.parameters(), lr=1).step()
by_step, of_other = vector.tolist(), other.weight.tolist()

copy = parameters_to_vector(model.parameters()).detach()
copy.add_(5)
print("weights after the vector had 1 added:", by_vector)
print("the vector after a step of the model:", by_step)
print("weights of the other model after that step:", of_other)
print("weights after a change of what parameters_to_vector gave:", model.weight.tolist())
same = by_vector == [[1, 1]] and by_step == [0, 0, 0] and of_other == [[0, 0]]
same &= model.weight.tolist() == [[0, 0]]
print("as described" if same else "changed")
sys.exit(not same)
PY
