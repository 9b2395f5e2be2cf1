#!/usr/bin/env bash
# PyTorch 2.13.0: in a checkpoint, some forward hooks run twice and the last ones once.
#
# `torch.utils.checkpoint` runs its function again in the backward pass, and with it the
# forward hooks of its layers. With `use_reentrant=False` the second run stops as soon as
# it has made the last tensor that was not kept, so that the hook of the layer that is last
# in the checkpoint is not called again, and those before it are. With `use_reentrant=True`
# all are called twice. Hooks of the backward pass run once for each layer.
#
# Expected: one count for all layers. So a sum of a a^T that forward hooks make is twice as
# large for some layers and right for others, while that of g g^T is right: a number of
# cases that is counted once for the model cannot repair it.
#
# Seen: the factors over those without a checkpoint are 2, 2, 1, and 2, 2, 2 where it is
# reentrant, or with `set_checkpoint_early_stop(False)`.
# The way out is a hook that does nothing where `torch._C._current_graph_task_id() != -1`,
# which is within a backward pass.
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
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

torch.manual_seed(0)
x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)


def traces(call, skip_second=False):
    """The trace of the sum of a a^T, and of g g^T, of each linear layer."""
    torch.manual_seed(1)
    layers = [nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)]
    model = nn.Sequential(*layers).double()
    inputs, outputs = torch.zeros(3), torch.zeros(3)
    for i, layer in enumerate(layers[::2]):

        def forward(layer, given, made, i=i):
            if not (skip_second and torch._C._current_graph_task_id() != -1):
                inputs[i] += given[0].detach().square().sum()

        def backward(layer, given, made, i=i):
            outputs[i] += made[0].square().sum()

        layer.register_forward_hook(forward)
        layer.register_full_backward_hook(backward)
    call(model, x).square().sum().backward()
    return inputs, outputs


def plain(model, x):
    return model(x)


def reentrant(model, x):
    return checkpoint(model, x, use_reentrant=True)


def modern(model, x):
    return checkpoint(model, x, use_reentrant=False)


def whole(model, x):
    with set_checkpoint_early_stop(False):
        return checkpoint(model, x, use_reentrant=False)


right = traces(plain)
ways = {
    "use_reentrant=False": (modern, False, [2.0, 2.0, 1.0]),
    "use_reentrant=True": (reentrant, False, [2.0, 2.0, 2.0]),
    "no early stop": (whole, False, [2.0, 2.0, 2.0]),
    "second run skipped": (modern, True, [1.0, 1.0, 1.0]),
}
same = True
for name, (call, skip, expected) in ways.items():
    a, g = (
        (own / truth).round(decimals=5).tolist()
        for own, truth in zip(traces(call, skip), right, strict=True)
    )
    print(f"{name:20} inputs {a}, gradients {g} of those without a checkpoint")
    same &= a == expected and g == [1.0, 1.0, 1.0]
print("as described" if same else "changed")
sys.exit(not same)
PY
