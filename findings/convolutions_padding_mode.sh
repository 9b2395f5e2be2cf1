#!/usr/bin/env bash
# curvlinops 3.0.1, BackPACK 1.7.1, opacus 1.6.0, nngeometry 0.4: convolutions pad zeros.
#
# A convolution with `padding_mode="circular"`, `"reflect"` or `"replicate"` pads its input
# with numbers of the input. Libraries that cut the input into patches anew, from the
# layer's kernel, stride and padding, do not read `padding_mode`: their patches have zeros
# at the border. The model's output and loss are right, and so is `p.grad`; gradients of
# each case and Fisher matrices are wrong, by half and more, and there is no error.
#
# Expected: the gradients and matrices of the layer that is run, or an error, as some of
# these libraries raise for other options of a layer that they cannot take.
#
# Seen, over all three modes, while with zeros all agree to 1e-12: the gradients of the
# cases of BackPACK and opacus do not have autograd's sum, the dense Fisher matrix of
# nngeometry is not J'J, and K-FAC of curvlinops, which is exact for one position and one
# case, is not the exact matrix that `GGNLinearOperator` gives. `torch.func.vmap` of `grad`
# is right. The way out is `F.pad` before a layer without padding, as a layer of its own.
#
# Needs Python 3.11, pip, and the space of PyTorch. Ends with 0 if the behaviour is the
# one above, else with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" -q install torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 \
    curvlinops-for-pytorch==3.0.1 backpack-for-pytorch==1.7.1 opacus==1.6.0 \
    nngeometry==0.4 2>/dev/null

"$folder/v/bin/python" -W ignore - <<'PY'
import sys
import warnings

import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad
from curvlinops import GGNLinearOperator, KFACLinearOperator
from nngeometry.metrics import FIM
from nngeometry.object.pspace import PMatDense
from opacus.grad_sample import GradSampleModule
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)


def network(mode, stride=1):
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 2, 3, stride, padding=1, padding_mode=mode, bias=False)
    return nn.Sequential(convolution, nn.Flatten())


def off(found, right):
    return ((found - right).norm() / right.norm()).item()


def of_each_case(mode):
    """By how far the gradients of each case of BackPACK, opacus and vmap are off."""
    x, y = torch.randn(3, 1, 4, 4), torch.randn(3, 32)
    plain = network(mode)
    nn.MSELoss()(plain(x), y).backward()
    right = plain[0].weight.grad

    model = extend(network(mode))
    loss = extend(nn.MSELoss())(model(x), y)
    with backpack(BatchGrad()):
        loss.backward()
    by_backpack = model[0].weight.grad_batch.sum(0)
    assert torch.allclose(model[0].weight.grad, right)

    model = network(mode)
    nn.MSELoss()(GradSampleModule(model)(x), y).backward()
    by_opacus = model[0].weight.grad_sample.mean(0)

    def one(parameters, x, y):
        return nn.MSELoss()(functional_call(plain, parameters, (x[None],))[0], y)

    parameters = dict(plain.named_parameters())
    by_vmap = vmap(grad(one), (None, 0, 0))(parameters, x, y)["0.weight"].mean(0)
    return [off(found, right) for found in (by_backpack, by_opacus, by_vmap)]


def of_matrices(mode):
    """By how far nngeometry's dense Fisher matrix and curvlinops' K-FAC are off."""
    x, y = torch.randn(1, 1, 4, 4), torch.randn(1, 2)
    model = network(mode, stride=4)
    jacobian = jacrev(lambda w: functional_call(model, {"0.weight": w}, (x,)))
    j = jacobian(model[0].weight.detach()).reshape(2, 18)
    data = torch.utils.data.TensorDataset(x, torch.zeros(1))
    loader = torch.utils.data.DataLoader(data, batch_size=1)
    fisher = FIM(model, loader, PMatDense, device="cpu", variant="regression")

    args = (model, nn.MSELoss(), [*model.parameters()], [(x, y)])
    kfac = KFACLinearOperator(*args, fisher_type="type-2", check_deterministic=False)
    ggn = GGNLinearOperator(*args, check_deterministic=False) @ torch.eye(18)
    assert torch.allclose(ggn, j.T @ j)
    return [off(fisher.to_torch(), j.T @ j), off(kfac @ torch.eye(18), ggn)]


names = ("BackPACK", "opacus", "vmap", "nngeometry", "curvlinops")
changed = False
for mode in ("zeros", "circular", "reflect", "replicate"):
    errors = dict(zip(names, of_each_case(mode) + of_matrices(mode), strict=True))
    print(f"{mode:9}", *(f"{name} {error:.0e}" for name, error in errors.items()))
    for name, error in errors.items():
        right = mode == "zeros" or name == "vmap"
        changed |= error > 1e-12 if right else error < 0.1
print("changed" if changed else "as described")
sys.exit(changed)
PY
