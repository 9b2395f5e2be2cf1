#!/usr/bin/env bash
# PyTorch 2.13.0: gradients of each case by `vmap` fail for every recurrent layer.
#
# `vmap(grad(loss), in_dims=(None, 0))` gives one gradient a case: the parameters are
# shared, the cases are not. It works for linear layers, convolutions, embeddings,
# attention and norms. For `nn.RNN`, `nn.GRU`, `nn.LSTM` and even `nn.GRUCell`, one step
# without a sequence, it raises: "output with shape [1, 2] doesn't match the broadcast
# shape [4, 1, 2]". They add into a result of the shared weights in place, which has no
# axis of cases.
#
# Expected: cells work as the linear layers do that they consist of, or the error names
# the layer. A loop over the cases works, and so does a cell written with `F.linear`.
#
# Seen: the errors above, and the gradients of `F.linear` equal to those of the loop.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" <<'PY'
import sys

import torch
from torch.func import functional_call, grad, vmap

print("torch", torch.__version__)
torch.manual_seed(0)


class WrittenByHand(torch.nn.GRUCell):
    """One step of a recurrent layer, with `F.linear` alone."""

    def forward(self, x):
        return torch.tanh(torch.nn.functional.linear(x, self.weight_ih, self.bias_ih))


changed = False
for kind in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM, torch.nn.GRUCell, WrittenByHand):
    layer = kind(3, 2).double()
    parameters = dict(layer.named_parameters())
    cell = issubclass(kind, torch.nn.GRUCell)
    cases = torch.randn((4, 3) if cell else (4, 5, 3), dtype=torch.float64)

    def loss(parameters, case):
        found = functional_call(layer, parameters, (case,))
        return (found[0] if isinstance(found, tuple) else found).square().sum()

    one_by_one = [grad(loss)(parameters, case) for case in cases]
    try:
        at_once = vmap(grad(loss), in_dims=(None, 0))(parameters, cases)
    except RuntimeError as error:
        print(f"{kind.__name__:13} {error}")
        changed |= kind is WrittenByHand or "doesn't match the broadcast" not in str(error)
    else:
        difference = max(
            (at_once[name][i] - gradients[name]).abs().max().item()
            for i, gradients in enumerate(one_by_one)
            for name in parameters
        )
        print(f"{kind.__name__:13} gradients differ by {difference}")
        changed |= kind is not WrittenByHand or difference > 1e-12
print("changed" if changed else "as described")
sys.exit(changed)
PY
