"""How much more arithmetic a step of K-FAC has than a step of a first-order method.

A layer with ``a`` inputs (the one of a bias among them), ``g`` outputs and ``L``
locations takes ``2 N L a g`` operations for a batch of ``N`` forward, as many for the
gradient of the weights, and as many for that of the inputs, which the first layer does
not need. K-FAC adds, in operations:

- statistics: ``N L (a^2 + g^2)``, one triangle of each Gram matrix;
- targets drawn from the model: one more backward pass, without gradients of weights;
- inverses: ``a^3 + g^3``, of which a third is the Cholesky factor;
- the preconditioned gradient: ``2 a g (a + g)``.

Attention has products without weights: of ``T`` tokens of width ``d`` the scores and
the weighted sums, ``4 N T^2 d`` operations forward, and twice as many backward.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Layer(NamedTuple):
    """Sizes of a layer.

    Attributes:
        inputs: Number of inputs of a location, the one of a bias included.
        outputs: Number of outputs of a location.
        locations: Number of locations of a case.
    """

    inputs: int
    outputs: int
    locations: int = 1


def ratio(
    layers: Sequence[Layer],
    batch: int,
    *,
    draws: bool,
    cov_every: int,
    invert_every: int,
    share: float = 1.0,
    without_weights: float = 0.0,
) -> float:
    """Return the arithmetic of a mean step, divided by that of a first-order step.

    Args:
        layers: The layers; the first takes the data.
        batch: Number of cases.
        draws: Whether targets are drawn, by one more backward pass.
        cov_every: Every how many steps there are statistics.
        invert_every: Every how many steps there are inverses.
        share: Share of the cases that statistics are made of.
        without_weights: Operations of a forward pass in products that have no weights.

    Example:
        >>> layers = [Layer(65, 256), Layer(257, 256), Layer(257, 10)]
        >>> each = {"draws": False, "cov_every": 1, "invert_every": 10}
        >>> round(ratio(layers, 128, **each), 2)
        2.98
        >>> round(ratio(layers, 4096, **each), 2)
        1.61
    """
    passes = [2 * batch * x.locations * x.inputs * x.outputs for x in layers]
    back_to_inputs = sum(passes[1:])
    back_to_inputs += 2 * without_weights
    plain = 2 * sum(passes) + without_weights + back_to_inputs
    statistics = share * sum(
        batch * x.locations * (x.inputs**2 + x.outputs**2) for x in layers
    ) + (back_to_inputs if draws else 0)
    inverses = sum(x.inputs**3 + x.outputs**3 for x in layers)
    products = sum(2 * x.inputs * x.outputs * (x.inputs + x.outputs) for x in layers)
    added = statistics / cov_every + inverses / invert_every + products
    return (plain + added) / plain
