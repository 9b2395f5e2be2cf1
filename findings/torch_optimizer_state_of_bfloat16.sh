#!/usr/bin/env bash
# PyTorch 2.13.0: `Optimizer.load_state_dict` rounds float32 state of bfloat16 parameters.
#
# An optimiser of bfloat16 parameters that keeps its statistics in float32, as it must
# since averages in bfloat16 stop, saves them in float32. `load_state_dict` casts every
# floating tensor of a parameter's state to the dtype of the parameter, but for the one
# that is named `step`: what comes back is bfloat16, without a warning, and stays so. A
# tensor in a list or tuple is cast as well; what is not under a parameter is not.
#
# Expected: the state that was saved. So a factor has a third of its digits, and an average
# with decay 0.999 never moves again. The way out is an override of `load_state_dict` that
# puts the saved tensors back, or a key of its own beside "state".
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import io
import sys

import torch

DECAY = 0.999


class Averages(torch.optim.Optimizer):
    """Keeps an average of g g^T in float32 for each matrix of parameters."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self):
        for own in self.param_groups[0]["params"]:
            g = own.grad.float()
            state = self.state[own]
            if not state:
                state["factor"] = g @ g.mT
                state["pair"] = (g @ g.mT,)
                state["step"] = torch.tensor(1.001)
            state["factor"] = DECAY * state["factor"] + (1 - DECAY) * 4 * (g @ g.mT)


def one(dtype):
    torch.manual_seed(0)
    own = torch.nn.Parameter(torch.randn(4, 6).to(dtype))
    own.grad = torch.randn(4, 6).to(dtype)
    return own, Averages([own])


def resumed(dtype):
    own, first = one(dtype)
    first.step()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    other, second = one(dtype)
    second.load_state_dict(torch.load(file))
    return first.state[own], second.state[other]


same = True
for dtype, cast in ((torch.float32, False), (torch.bfloat16, True)):
    saved, loaded = resumed(dtype)
    off = (loaded["factor"].float() - saved["factor"]).abs().max() / saved["factor"].abs().max()
    names = [loaded["factor"].dtype, loaded["pair"][0].dtype, loaded["step"].dtype]
    print(f"parameters of {dtype}: state comes back as {names}, off by {off:.0e}")
    same &= names == [dtype, dtype, torch.float32] and (off > 1e-4 if cast else off == 0)
    same &= saved["factor"].dtype == torch.float32
one_step = torch.ones((), dtype=torch.bfloat16)
stuck = DECAY * one_step + (1 - DECAY) * 2 == one_step
print("an average of bfloat16 with decay 0.999 stays at 1 where its data are 2:", bool(stuck))
print("as described" if same and stuck else "changed")
sys.exit(not (same and stuck))
PY
