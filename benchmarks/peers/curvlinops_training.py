"""curvlinops: its K-FAC of a batch, its inverse, and one product with that."""

from typing import Any

import torch
from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

from benchmarks.measuring import Call


def refresh(model: Any, x: Any, labels: Any, mode: str, damping: float) -> Call:
    """Return a new estimate of a model's curvature, inverted, times its gradient.

    Args:
        model: The model.
        x: Its inputs.
        labels: Targets of the cross-entropy.
        mode: ``"empirical"``, or ``"gradients"`` of targets that are drawn.
        damping: Added to each factor.

    Returns:
        The call.
    """
    loss, params = torch.nn.CrossEntropyLoss(), [*model.parameters()]
    fisher = {"empirical": "empirical", "gradients": "mc"}[mode]

    @torch.enable_grad()
    def call() -> None:
        model.zero_grad()
        loss(model(x), labels).backward()
        kfac = KFACLinearOperator(
            model,
            loss,
            params,
            [(x, labels)],
            check_deterministic=False,
            fisher_type=fisher,
            separate_weight_and_bias=False,
        )
        inverse = KFACInverseLinearOperator(kfac, damping=damping)
        _ = inverse @ [p.grad for p in params]

    return call
