"""What the factor of a shared layer keeps of the lag from one use to the next."""

from typing import NamedTuple

from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.linalg.series import Option1Quants, Option2Quants
from kfac_core.typing import Array


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
