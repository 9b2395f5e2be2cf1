"""curvlinops: its K-FAC of a batch, its inverse, and one product with that."""

from typing import Any

import torch
from curvlinops import KFACInverseLinearOperator, KFACLinearOperator

from benchmarks.measuring import Call


def refreshes(
    model: Any, x: Any, labels: Any, mode: str, damping: float
) -> dict[str, Call]:
    """Return a new estimate of a model's curvature, inverted, times its gradient.

    Args:
        model: The model.
        x: Its inputs.
        labels: Targets of the cross-entropy.
        mode: ``"empirical"``, or ``"gradients"`` of targets that are drawn.
        damping: Added to each factor.

    Returns:
        The call by ``"statistics, inverses and product"``, and its parts by
        ``"statistics"``, with the passes that are made for them, and by ``"inverses and
        product"``.
    """
    loss, params = torch.nn.CrossEntropyLoss(), [*model.parameters()]
    fisher = {"empirical": "empirical", "gradients": "mc"}[mode]

    @torch.enable_grad()
    def statistics() -> KFACLinearOperator:
        kfac = KFACLinearOperator(
            model,
            loss,
            params,
            [(x, labels)],
            check_deterministic=False,
            fisher_type=fisher,
            separate_weight_and_bias=False,
        )
        kfac.compute_kronecker_factors()
        return kfac

    def product(kfac: KFACLinearOperator) -> None:
        inverse = KFACInverseLinearOperator(kfac, damping=damping)
        _ = inverse @ [p.grad for p in params]

    @torch.enable_grad()
    def backward() -> None:
        model.zero_grad()
        loss(model(x), labels).backward()

    def call() -> None:
        backward()
        product(statistics())

    backward()
    known = statistics()
    return {
        "statistics": statistics,
        "inverses and product": lambda: product(known),
        "statistics, inverses and product": call,
    }
