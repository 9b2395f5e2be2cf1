"""A network of PyTorch as a model, its graphs kept wherever autograd can keep one."""

import torch

from kfac_core.layer_collection import LayerCollection
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss

SHAPES = {"w1": (4, 5), "b1": (5,), "w2": (5, 3), "b2": (3,)}


class Linearized:
    """The least careful adapter: all that it returns has a graph of the parameters."""

    def __init__(self, params, batch):
        x, labels = batch
        self.params, self.batch_size = params, len(x)
        hidden = x @ params["w1"] + params["b1"]
        inputs = torch.tanh(hidden)
        logits = inputs @ params["w2"] + params["b2"]
        self.outputs = {"hidden": hidden, "out": logits}
        self.layer_inputs = {"hidden": x, "out": inputs}
        self.loss_inputs = {"logits": logits}
        self.targets, self.masks = {"logits": labels}, {}

    def _pull(self, vectors, leaves):
        return dict(
            zip(
                leaves,
                torch.autograd.grad(
                    self.loss_inputs["logits"],
                    list(leaves.values()),
                    vectors["logits"],
                    create_graph=True,
                ),
                strict=True,
            )
        )

    def output_gradients(self, vectors):
        return self._pull(vectors, self.outputs)

    def param_gradients(self, vectors, names=None):
        return self._pull(vectors, self.params)

    def push_forward(self, tangents):
        # The derivative of the pulled-back vector for that vector.
        u = torch.zeros_like(self.loss_inputs["logits"], requires_grad=True)
        pulled = self._pull({"logits": u}, self.params)
        names = list(self.params)
        (pushed,) = torch.autograd.grad(
            [pulled[name] for name in names],
            u,
            [tangents[name] for name in names],
            create_graph=True,
        )
        return {"logits": pushed}


class Model:
    def linearize(self, params, batch):
        return Linearized(params, batch)


def collection():
    return (
        LayerCollection.of(SHAPES)
        .register_fully_connected(("w1", "b1"), site="hidden")
        .register_fully_connected(("w2", "b2"), site="out")
        .register_loss_function(CategoricalLogitsNegativeLogProbLoss(), "logits")
    )


def drawn_params(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()
        for name, shape in SHAPES.items()
    }


def drawn_batch(seed=1, cases=12):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn((cases, 4), generator=rng, dtype=torch.float64)
    return x, torch.randint(3, (cases,), generator=rng)
