"""The preconditioned gradient of all parameters, those without a block included."""

from collections.abc import Mapping

import torch

from kfac_adapters.torch.tracking import Tracker
from kfac_core.collectives.inverses import multiplied
from kfac_core.linalg.named import inner
from kfac_core.optimizer.update_rules import bounded
from kfac_core.registry import backend_of

Named = dict[str, torch.Tensor]
"""Tensors by the names of parameters."""


def preconditioned(
    tracker: Tracker, gradients: Mapping[str, torch.Tensor | None]
) -> Named:
    """Return the inverse of the damped blocks, times a gradient.

    Args:
        tracker: The statistics, with inverses.
        gradients: The gradient for each trained parameter; None where there is none.

    Returns:
        The product, for each parameter that has a gradient, but those to be ignored.
    """
    capture, estimator = tracker.capture, tracker.estimator
    params, given = capture.params if capture.made else {}, dict(gradients)
    for made in capture.made:
        given[made.name] = made.gradient(params, gradients)
    own: Named = {
        name: x for name in estimator.variables if (x := given.get(name)) is not None
    }
    if len(own) < len(estimator.variables):
        # A part of a layer that has none counts as zero.
        own = {n: torch.zeros_like(x) for n, x in capture.variables.items()} | own
    products = multiplied(estimator, tracker.served, own, tracker.teams)
    for made in capture.made:
        products |= made.steps(params, products.pop(made.name))
    found = {name: x for name, x in products.items() if gradients.get(name) is not None}
    if capture.policy == "identity":
        for name in capture.left:
            gradient = gradients.get(name)
            if gradient is not None:
                found[name] = gradient
    return found


def bound(
    limit: float | None,
    rates: Mapping[str, float],
    directions: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor | None],
) -> torch.Tensor | float:
    """Return what steps are multiplied by so that the norm constraint holds.

    Args:
        limit: The largest squared norm of the step in the Fisher; None: any.
        rates: The learning rate of each parameter.
        directions: The preconditioned gradients.
        gradients: The gradients.

    Returns:
        A number of at most one.
    """
    if limit is None or not directions:
        return 1.0
    backend = backend_of(next(iter(directions.values())))
    steps = {name: rates[name] * x for name, x in directions.items()}
    found = {name: gradients[name] for name in steps}
    own = {name: rates[name] * g for name, g in found.items() if g is not None}
    norm = inner(backend, steps, own)
    coefficient: torch.Tensor = bounded(backend, norm, limit)
    return coefficient
