"""Records the factors and a damped step of mlx-kfac, as `record.py` does.

``python tests/presets/record_mlx.py`` writes ``recorded/mlx_kfac.json``. It is a script
of its own, since it needs neither PyTorch nor JAX. mlx-kfac computes in float32.

The parameters are zero, and the step is of length one: what they become is the product
of the inverse with the gradient, negated.
"""

import importlib.metadata
import json

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_kfac import KFAC
from recorded_squares import KINDS, OUT, RECORDED, inputs_and_targets

REDUCTIONS = {"mlx-kfac": "mean", "mlx-kfac, sum": "sum"}
RULES = {"constant": "uniform", "pi": "pi"}
"""Our name of a rule of damping -> that of mlx-kfac."""
DAMPING = 0.1
PARAMS = ("weight", "bias")


class Model(nn.Module):
    """One layer with a bias, both zero."""

    def __init__(self, kind):
        super().__init__()
        images = kind == "images"
        self.layer = nn.Conv2d(2, OUT, (2, 1)) if images else nn.Linear(4, OUT)
        self.layer.weight = mx.zeros_like(self.layer.weight)
        self.layer.bias = mx.zeros_like(self.layer.bias)

    def __call__(self, x):
        return self.layer(x)


def step(kind, reduction, rule):
    """Return the factors, the gradient of the mean loss, and its damped product."""
    model = Model(kind)
    optimizer = KFAC(
        learning_rate=1.0,
        model=model,
        damping=DAMPING,
        factor_decay=0.0,
        inverse_update_interval=1,
        damping_strategy=RULES[rule],
        loss_reduction=reduction,
    )
    x, targets = map(mx.array, inputs_and_targets(kind))

    def loss(model):
        return mx.mean((model(x) - targets) ** 2)

    _, gradient = nn.value_and_grad(model, loss)(model)
    optimizer.update(model, gradient)
    (own,) = optimizer.state["layers"].values()
    factors = {part: np.asarray(own[part], float).tolist() for part in ("A", "G")}
    return factors, listed(gradient["layer"]), listed(model.layer, -1)


def listed(layer, sign=1):
    """Return weights and bias as lists; those of kernels are ``[out, ..., in]``."""
    return [(sign * np.asarray(layer[part], float)).tolist() for part in PARAMS]


def products(kind):
    """Return a gradient of the mean loss, and its products by both rules of damping."""
    made = {rule: step(kind, "mean", rule) for rule in RULES}
    steps = {rule: product for rule, (_, _, product) in made.items()}
    return {"damping": DAMPING, "vector": made["pi"][1], **steps}


def main():
    mx.set_default_device(mx.cpu)
    recorded = {
        "version": importlib.metadata.version("mlx-kfac"),
        "mlx": importlib.metadata.version("mlx"),
        "dtype": "float32",
        "factors": {
            name: {kind: step(kind, reduction, "constant")[0] for kind in KINDS}
            for name, reduction in REDUCTIONS.items()
        },
        "products": {kind: products(kind) for kind in KINDS},
    }
    path = RECORDED / "mlx_kfac.json"
    path.write_text(json.dumps(recorded, sort_keys=True) + "\n")
    print(path)


if __name__ == "__main__":
    main()
