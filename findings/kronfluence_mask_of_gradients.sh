#!/usr/bin/env bash
# kronfluence 1.0.1: an attention mask leaves padding out of A, and not out of G.
#
# Where `Task.get_attention_mask` gives a mask, the rows of padding are left out of the
# covariance of activations, and both covariances are divided by the number of tokens that
# count. The rows of gradients are not masked: where padding has a gradient, as under a mean
# over time, it counts in the numerator and not in the denominator.
#
# Expected: both sides masked. So gradients of padding must be zero before factors with a
# mask are compared.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    kronfluence==1.0.1 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
import warnings

import torch
from kronfluence.arguments import FactorArguments
from kronfluence.factor.covariance import fit_covariance_matrices_with_loader
from kronfluence.module.utils import wrap_tracked_modules
from kronfluence.task import Task
from kronfluence.utils.state import State

warnings.simplefilter("ignore")
torch.manual_seed(0)
cases, tokens = 4, 5
x, y = torch.randn(cases, tokens, 3), torch.randn(cases, tokens, 2)
mask = (torch.arange(tokens) < 3).long().repeat(cases, 1)  # two tokens are padding
weight = torch.randn(2, 3)


class Squares(Task):
    def compute_train_loss(self, batch, model, sample=False):
        inputs, targets, _ = batch
        # The mean over time feeds padding, too, into what counts.
        return ((model(inputs).mean(1) - targets[:, 0]) ** 2).sum()

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)

    def get_attention_mask(self, batch):
        return batch[2]


model = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False))
with torch.no_grad():
    model[0].weight.copy_(weight)
arguments = FactorArguments(use_empirical_fisher=True)
task = Squares()
model = wrap_tracked_modules(model, task, factor_args=arguments)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(x, y, mask), batch_size=cases
)
_, made = fit_covariance_matrices_with_loader(
    model, State(cpu=True), task, loader, arguments, disable_tqdm=True
)
a, g = (next(iter(made[f"{name}_covariance"].values())) for name in ("activation", "gradient"))
counts = [
    int(next(iter(made[f"num_{name}_covariance_processed"].values())))
    for name in ("activation", "gradient")
]
kept = x[mask.bool()]
rows = 2 * ((x @ weight.T).mean(1) - y[:, 0]) / tokens  # the gradient at each token
of_all = tokens * rows.T @ rows
of_kept = 3 * rows.T @ rows
inputs_masked = torch.allclose(a, kept.T @ kept, atol=1e-4)
all_rows = torch.allclose(g, of_all, atol=1e-4)
print("inputs of padding are left out:", inputs_masked)
print("gradients of padding are left out:", torch.allclose(g, of_kept, atol=1e-4))
print("gradients of all tokens are summed:", all_rows, "over a count of", counts)
if not (inputs_masked and all_rows and counts == [12, 12]):
    print("changed")
    sys.exit(1)
print("as described")
PY
