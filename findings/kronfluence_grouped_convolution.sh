#!/usr/bin/env bash
# kronfluence 1.0.1: scores of a grouped convolution are not products of its gradients.
#
# Inputs of a convolution with `groups` are averaged over the groups, as other libraries do
# for the factor A. Here the average is also what the gradient of each case is made of, so
# that every group's weights have the gradient for the mean of all groups' inputs. Scores
# are wrong before any approximation: with the strategy "identity", where they are plain
# products of gradients, they are half off for two groups. There is no warning.
#
# Expected: gradients of each case as autograd has them, and an average in the factor alone;
# or an error. Depthwise convolutions are grouped. The way out is to leave such layers out
# by `get_influence_tracked_modules`.
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
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.module.utils import wrap_tracked_modules
from kronfluence.score.pairwise import compute_pairwise_scores_with_loaders
from kronfluence.task import Task
from kronfluence.utils.state import State
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)
CASES = 5
x, y = torch.randn(CASES, 4, 4, 4), torch.randn(CASES, 2)


def squares(model, x, y):
    return ((model(x) - y) ** 2).sum()


class Squares(Task):
    def compute_train_loss(self, batch, model, sample=False):
        return squares(model, *batch)

    def compute_measurement(self, batch, model):
        return squares(model, *batch)


def off(groups):
    """Of each layer, how far scores are from the products of gradients by autograd."""
    layers = [nn.Conv2d(4, 4, 3, groups=groups), nn.Flatten(), nn.Linear(16, 2)]
    model = nn.Sequential(*layers)
    truth = {}
    for i in (0, 2):
        params = [*model[i].parameters()]
        rows = []
        for n in range(CASES):
            grads = torch.autograd.grad(squares(model, x[n : n + 1], y[n : n + 1]), params)
            rows.append(torch.cat([own.flatten() for own in grads]))
        truth[str(i)] = torch.stack(rows) @ torch.stack(rows).T
    factors = FactorArguments(strategy="identity")
    scores = ScoreArguments(compute_per_module_scores=True)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=CASES
    )
    made = compute_pairwise_scores_with_loaders(
        loaded_factors={},
        model=wrap_tracked_modules(model, Squares(), factors, scores),
        state=State(cpu=True),
        task=Squares(),
        query_loader=loader,
        per_device_query_batch_size=CASES,
        train_loader=loader,
        score_args=scores,
        factor_args=factors,
        tracked_module_names=None,
        disable_tqdm=True,
    )
    return {i: float((made[i] - own).norm() / own.norm()) for i, own in truth.items()}


found = {groups: off(groups) for groups in (1, 2, 4)}
for groups, error in found.items():
    print(f"{groups} groups: convolution {error['0']:.1e}, linear layer {error['2']:.1e}")
same = all(
    error["2"] < 1e-5 and (error["0"] < 1e-5 if groups == 1 else error["0"] > 0.1)
    for groups, error in found.items()
)
print("as described" if same else "changed")
sys.exit(not same)
PY
