"""What products with a block-tridiagonal inverse need, from the statistics."""

from collections.abc import Sequence
from typing import Any

from kfac_core import moving_average, tree
from kfac_core.backend import Backend
from kfac_core.errors import NotPositiveDefiniteError
from kfac_core.estimator.state import EstimatorState
from kfac_core.estimator.tridiagonal.cross_factors import CrossFactors
from kfac_core.fisher_factors.base.messages import or_wider
from kfac_core.layer_collection import LayerRegistration
from kfac_core.linalg.kronecker_chain import Link, Product, link
from kfac_core.state import all_finite, kept
from kfac_core.typing import Array


def factors(
    layers: Sequence[LayerRegistration], state: EstimatorState, exp: float
) -> tuple[Product, ...]:
    """Return a power of the damped factors of each layer, dense.

    Args:
        layers: The layers of a chain.
        state: Their statistics and inverses.
        exp: 1, of the current statistics; or -1, of the last `update_inverses`.

    Returns:
        For each layer the powers of ``A + a I`` and ``G + g I``.
    """
    found = []
    for layer in layers:
        block: Any = layer.block
        a, g = [
            factor.get_matpower(own, exp).to_dense()
            for factor, own in zip(
                block._sides, state.blocks[layer.name][:2], strict=True
            )
        ]
        found.append((a, g))
    return tuple(found)


def links_of(
    backend: Backend,
    layers: Sequence[LayerRegistration],
    cross: Sequence[CrossFactors],
    damped: Sequence[Product],
    inverses: Sequence[Product],
) -> tuple[Link, ...]:
    """Return each layer given the next one, its arrays as a state keeps them.

    Args:
        backend: Backend of all.
        layers: The layers of a chain.
        cross: Statistics of each layer and the next.
        damped: The damped factors of each layer.
        inverses: Their inverses.

    Returns:
        One for each layer but the last; NaN or infinite where there is none.
    """
    found = []
    for i, own in enumerate(cross):
        a, g = [moving_average.value(backend, x, layers[i].name) for x in own]
        made = link(backend, damped[i], (a, g), inverses[i + 1])
        found.append(tree.map(kept, made))
    return tuple(found)


def are_definite(backend: Backend, links: Sequence[Link], like: Array) -> list[Array]:
    """Return for each link, 0-d, whether what is left has an inverse."""
    return [
        all_finite(backend, own, like) & (backend.xp.min(own.eigenvalues(backend)) > 0)
        for own in links
    ]


def not_definite(
    backend: Backend,
    layers: Sequence[LayerRegistration],
    fine: Sequence[Array],
    like: Array,
    label: str,
) -> NotPositiveDefiniteError:
    """Say which layers have no inverse, and what would help."""
    pairs = zip(layers[:-1], fine, strict=True)
    names = ", ".join(layer.name for layer, each in pairs if not bool(each))
    msg = (
        f"{label}: damping is too small for {names}, whose covariance, given the next"
        f" layer, is not positive definite in {like.dtype}; use a larger damping"
        f"{or_wider(backend, like.dtype)}. The state is unchanged"
    )
    return NotPositiveDefiniteError(msg)
