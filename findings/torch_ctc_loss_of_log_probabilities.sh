#!/usr/bin/env bash
# PyTorch 2.13.0: the gradient of `ctc_loss` is not that by its log-probabilities.
#
# `F.ctc_loss` takes log-probabilities and its backward pass returns the gradient by the
# logits which a softmax would have made them of: the derivative by finite differences plus
# the probabilities. Where these sum to one, as after `log_softmax`, the gradient by what
# they are made of is right all the same. Where they do not, as with a learned scale of the
# scores or a learned penalty of the blank, it is wrong, and may have the wrong sign, without
# a warning. There is no second derivative
# ("derivative for aten::_ctc_loss_backward is not implemented").
#
# Expected: the derivative by the argument, as for `nll_loss`. So gradients at the log-
# probabilities cannot serve as those of outputs: take the logits for these, and
# `log_softmax` of scores that are scaled.
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
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
STEPS, CLASSES = 5, 4
labels, sizes = torch.tensor([[1, 2]]), (torch.tensor([STEPS]), torch.tensor([2]))
logits = torch.randn(2, STEPS, 1, CLASSES)


def ctc(log_probabilities):
    return F.ctc_loss(log_probabilities, labels, *sizes, reduction="sum")


def mixture(logits):
    return ctc(logits.softmax(-1).mean(0).log())


def one_head(logits):
    return ctc(logits[0].log_softmax(-1))


def scaled(scale):
    return ctc(scale * logits[0].log_softmax(-1))


def with_penalty(penalty):
    return ctc(logits[0].log_softmax(-1) - penalty * torch.eye(CLASSES)[0])


def off(loss, x):
    """The largest error of the gradient by autograd, and what is left of it."""
    x = x.clone().requires_grad_()
    found = torch.autograd.grad(loss(x), x)[0]
    right = torch.zeros(x.numel())
    for i in range(x.numel()):
        step = torch.zeros(x.numel())
        step[i] = 1e-6
        step = step.view(x.shape)
        right[i] = (loss(x.detach() + step) - loss(x.detach() - step)) / 2e-6
    return found - right.view(x.shape)


start = logits[0].log_softmax(-1)
by_argument = off(ctc, start)
extra = float((by_argument - start.exp()).abs().max())
errors = {
    "its argument": float(by_argument.abs().max()),
    "logits of one head": float(off(one_head, logits).abs().max()),
    "logits of a mixture": float(off(mixture, logits).abs().max()),
    "a scale of scores": float(off(scaled, torch.ones(())).abs()),
    "a penalty of blanks": float(off(with_penalty, torch.zeros(())).abs()),
}
for name, error in errors.items():
    print(f"gradient by {name:19}: off by {error:.1e}")
print(f"the first is the probabilities, to {extra:.0e}")
try:
    torch.autograd.functional.hessian(one_head, logits)
except RuntimeError as error:
    message = str(error)
else:
    message = ""
print("Hessian:", message)
argument, head, mixed, scale, penalty = errors.values()
wrong = min(argument, scale, penalty) > 0.1
right = max(extra, head, mixed) < 1e-7
same = wrong and right and "not implemented" in message
print("as described" if same else "changed")
sys.exit(not same)
PY
