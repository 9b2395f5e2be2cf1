"""What the factor of a shared layer keeps of the lag from one use to the next."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.linalg import psd
from kfac_core.linalg.series import (
    Option1Quants,
    Option2Quants,
    option1_quants,
    option2_quants,
)
from kfac_core.moving_average import MovingAverage
from kfac_core.state_classes import state_class
from kfac_core.typing import Array, DampingId


@state_class
class LaggedExtra(NamedTuple):
    """``extra`` of a `FullyConnectedMultiKF`'s state.

    Attributes:
        cov_dt1: Weighted sum of the lag-one statistics ``[n, n]``, one or none; its
            weights are those of ``cov``.
        option1: One for each of ``option1quants``, as of the last `update_inverses`.
        option2: One for each of ``option2quants``, as of the last `update_inverses`.
    """

    cov_dt1: tuple[Array, ...]
    option1: tuple[Option1Quants, ...]
    option2: tuple[Option2Quants, ...]


def extra_of(state: FactorState) -> LaggedExtra:
    """Return what a state keeps of lag one; nothing if another factor made it."""
    extra = getattr(state, "extra", None)
    return extra if isinstance(extra, LaggedExtra) else LaggedExtra((), (), ())


def lagged_value(backend: Backend, state: FactorState, label: str) -> Array:
    """Return ``C1``, ``[n, n]``, of a state that keeps it."""
    # Both averages have the same weights.
    lagged = MovingAverage(extra_of(state).cov_dt1[0], state.cov.weight)
    return moving_average.value(backend, lagged, label)


@dataclass(frozen=True)
class DenseWithLag(Dense):
    """The whole matrix, and what both options of a series need of lag one."""

    def empty_extra(self, backend: Backend, like: Array, factor: Any) -> LaggedExtra:
        """Return zeros for all that a `FullyConnectedMultiKF` registers."""

        def matrix() -> Array:
            return backend.xp.zeros_like(like)

        def vector() -> Array:
            return backend.diagonal(matrix()) * 0

        return LaggedExtra(
            cov_dt1=(matrix(),) if factor.cov_dt1 else (),
            option1=tuple(
                [Option1Quants(matrix(), vector()) for _ in factor.option1quants]
            ),
            option2=tuple(
                [
                    Option2Quants(matrix(), matrix(), vector())
                    for _ in factor.option2quants
                ]
            ),
        )

    def option1(self, backend: Backend, root: Array, lagged: Array) -> Option1Quants:
        """Return what option 1 needs; see `kfac_core.linalg.series`."""
        return option1_quants(backend, root, lagged)

    def extra(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: Any,
    ) -> LaggedExtra:
        """Return what the options need, of the current statistics."""
        extra = extra_of(state)
        if not factor.option1quants and not factor.option2quants:
            return extra
        (eigen,) = state.derived.eigendecompositions
        lagged = lagged_value(backend, state, factor.label)
        roots = {
            key: psd.eigen_power(backend, eigen, dampings[key], -0.5)
            for key in dict.fromkeys([*factor.option1quants, *factor.option2quants])
        }
        return extra._replace(
            option1=tuple(
                [
                    self.option1(backend, roots[key], lagged)
                    for key in factor.option1quants
                ]
            ),
            option2=tuple(
                [
                    option2_quants(backend, roots[key], lagged)
                    for key in factor.option2quants
                ]
            ),
        )
