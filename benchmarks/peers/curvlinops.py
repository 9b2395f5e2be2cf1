"""curvlinops: what the hooks of `KFACLinearOperator` call.

Its ``G`` of a summed loss is a sum over rows; the mean is taken in ``A`` alone.
"""

from typing import Any

import torch
from curvlinops import FisherType, KFACLinearOperator

from benchmarks.peers.layer import Layer, Peer
from benchmarks.peers.modules import module_of


def peer(layer: Layer, x: Any, g: Any) -> Peer:
    """Return its two factors of a layer's inputs and gradients.

    Args:
        layer: The layer.
        x: Its inputs.
        g: The gradients of the summed loss for its outputs.

    Returns:
        The peer.
    """
    module = module_of(layer)
    operator = KFACLinearOperator(
        torch.nn.Sequential(module),
        torch.nn.MSELoss(reduction="sum"),
        list(module.parameters()),
        [(x, g)],
        fisher_type=FisherType.EMPIRICAL,
        separate_weight_and_bias=False,
        check_deterministic=False,
        num_data=len(x),
        num_per_example_loss_terms=1,
    )

    def factors() -> tuple[Any, Any]:
        operator._input_covariances.clear()
        operator._gradient_covariances.clear()
        operator._hook_accumulate_input_covariance(module, (x,), "0")
        operator._accumulate_gradient_covariance(g, module, "0")
        return operator._input_covariances["0"], operator._gradient_covariances["0"]

    rows = len(x) * layer.locations
    return Peer(factors, factors, (1.0, float(rows)), channels_first=True)
