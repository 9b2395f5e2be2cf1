#!/usr/bin/env bash
# PyTorch 2.13.0: within one `torch.autocast`, a changed weight is not seen by the next pass.
#
# Autocast keeps the cast of a weight that needs a gradient until the outermost context
# ends, and does not look whether the weight has changed. A second forward pass in the same
# context, after a step, a line search or a difference of parameters, has the weights of
# the first: the loss after the step is bit for bit the loss before it. So it is where both
# passes are under `torch.no_grad`. Layers whose weights are not cast, such as norms, see
# the change, and so do all where the weights need no gradient.
#
# Expected: the loss at the parameters that the model has. So a ratio of the loss that fell
# to the one predicted is 0, and damping that adapts by it grows without end. The way out
# is a context for each pass, `torch.clear_autocast_cache()` after each change, or
# `cache_enabled=False`.
#
# Needs Python 3.11 or later and pip. Ends with 0 if the behaviour is the one above, else
# with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import contextlib
import sys

import torch

torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randn(64, 1)


def low(**options):
    return torch.autocast("cpu", torch.bfloat16, **options)


def losses(outer, inner, after=lambda: None):
    """The loss before and after a step, and that of a copy of the changed model."""
    torch.manual_seed(1)
    model = torch.nn.Linear(8, 1)

    def loss(model):
        with inner():
            return torch.nn.functional.mse_loss(model(x), y)

    with outer():
        before = loss(model)
        step = torch.autograd.grad(before, [*model.parameters()])
        with torch.no_grad():
            for own, change in zip(model.parameters(), step, strict=True):
                own -= 0.1 * change
        after()
        changed = loss(model)
    fresh = torch.nn.Linear(8, 1)
    fresh.load_state_dict(model.state_dict())
    with low():
        truth = torch.nn.functional.mse_loss(fresh(x), y)
    return before.item(), changed.item(), truth.item()


nothing = contextlib.nullcontext
ways = {
    "one context": losses(low, nothing),
    "a context for each pass": losses(nothing, low),
    "clear_autocast_cache()": losses(low, nothing, torch.clear_autocast_cache),
    "cache_enabled=False": losses(lambda: low(cache_enabled=False), nothing),
}
for way, (before, changed, truth) in ways.items():
    print(f"{way:24} before {before:.4f}, after {changed:.4f}, a copy's {truth:.4f}")


def is_stale(layer, needs=True):
    """Whether a second pass without a graph has the first one's weights."""
    layer.requires_grad_(needs)
    rows = torch.randn(4, 8)
    with torch.no_grad(), low():
        first = layer(rows)
        for own in layer.parameters():
            own += 1
        return torch.equal(layer(rows), first)


linear, norm, frozen = (
    is_stale(torch.nn.Linear(8, 8)),
    is_stale(torch.nn.LayerNorm(8)),
    is_stale(torch.nn.Linear(8, 8), needs=False),
)
print(f"stale without a graph: linear layer {linear}, norm {norm}, frozen layer {frozen}")
(before, changed, truth), *others = ways.values()
wrong = changed == before and abs(changed - truth) > 0.01
right = all(changed == truth != before for before, changed, truth in others)
right &= linear and not norm and not frozen
print("as described" if wrong and right else "changed")
sys.exit(not (wrong and right))
PY
