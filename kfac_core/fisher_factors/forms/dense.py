"""`Dense`: the form of a factor that keeps its whole matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.form import Form, decomposed
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.linalg import psd
from kfac_core.linalg.newton_schulz import may_suffice, refined, tolerance
from kfac_core.linalg.operators import FullMatrixOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange, krylov_range, rho
from kfac_core.moving_average import MovingAverage, Sample
from kfac_core.state import is_known_false
from kfac_core.statistics.rows import SecondMoment
from kfac_core.statistics.weighted_rows import Rows
from kfac_core.typing import Array, DampingId

if TYPE_CHECKING:
    from kfac_core.fisher_factors.base.factor import FisherFactor


@dataclass(frozen=True)
class Dense(Form):
    """The whole matrix, ``[n, n]``.

    One Cholesky factorisation for each damping serves its inverse, Cholesky factor and
    inverse Cholesky factor; one eigendecomposition serves all other powers. Which of
    the two computes a power depends on the exponent alone; in ``tf.contrib.kfac`` it
    depends on how many powers are registered. With ``newton_steps``, products turn the
    last inverse into the new one, where the result is verified to be as good.

    Example:
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> NaiveFullFactor(size=2, form=Dense()).cov_shape
        (2, 2)
    """

    def shape(self, size: int) -> tuple[int, ...]:
        return (size, size)

    def of_rows(self, backend: Backend, rows: Rows, has_bias: bool) -> Array | Sample:
        return SecondMoment(rows.arrays, has_bias, rows.roots, rows.number)

    def operator(
        self, backend: Backend, kept: Array, factor: "FisherFactor"
    ) -> FullMatrixOperator:
        return FullMatrixOperator(kept)

    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: "FisherFactor",
    ) -> Array:
        return psd.power(backend, cov, damping, exp)

    def trace(
        self, backend: Backend, average: MovingAverage, factor: "FisherFactor"
    ) -> Array:
        # The trace is taken of the sums: the mean would need as much memory as they do.
        sums = backend.xp.sum(self.diagonal(backend, average.total), axis=-1)
        of_sums = MovingAverage(sums, average.weight)
        return moving_average.value(backend, of_sums, factor.label)

    def eigendecomposition(
        self, backend: Backend, cov: Array, factor: "FisherFactor"
    ) -> Eigendecomposition:
        return decomposed(backend, cov, factor.label)

    def residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        place: int,
        factor: "FisherFactor",
    ) -> ResidualRange:
        inverse = state.derived.matpowers[place]
        return residual_of(backend, state.cov, damping, inverse, factor.label)

    def refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> Derived:
        if not factor.newton_steps or is_known_false(backend, state.computed):
            return self.derive(backend, cov, dampings, factor)
        # No other power is served.
        ids, last = [key for _, key in factor.stored_matpowers], state.derived.matpowers
        limit, near = tolerance(backend, cov), state.computed
        for place, key in enumerate(ids):
            found = self.residual(backend, state, dampings[key], place, factor)
            sufficient = may_suffice(
                backend, rho(backend, found), factor.newton_steps, limit
            )
            near = near & sufficient

        def refine() -> tuple[tuple[Array, ...], Array]:
            inverses, good = [], near
            for key, inverse in zip(ids, last, strict=True):
                matrix = self.power(backend, cov, dampings[key], 1.0, factor)
                better, bound = refined(backend, matrix, inverse, factor.newton_steps)
                inverses.append(better)
                good = good & backend.xp.all(bound <= limit)
            return tuple(inverses), good

        inverses, good = backend.cond(near, refine, lambda: (last, near))
        return backend.cond(
            good,
            lambda: Derived(tuple(dampings.values()), inverses, (), (), ()),
            lambda: self.derive(backend, cov, dampings, factor),
        )

    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> Derived:
        powers = factor.stored_matpowers
        # A factor that one inverse alone needs is made with it: see `damped_inverse`.
        kept = {*factor.cholesky, *factor.cholesky_inverse}
        if len(powers) > 1:
            inverted = [key for exp, key in powers if psd.needs_cholesky(exp)]
            kept |= {key for key in inverted if inverted.count(key) > 1}
        choleskys = {}
        for key in factor.damping_ids:  # in one order, as a trace keeps it
            if key in kept:
                choleskys[key] = psd.cholesky(backend, cov, dampings[key])
        eigen = None
        if factor.eigendecomposition or any(
            psd.needs_eigendecomposition(exp) for exp, _ in powers
        ):
            eigen = psd.eigendecomposition(backend, cov)
        return Derived(
            dampings=tuple(dampings.values()),
            matpowers=tuple(
                [
                    psd.power(backend, cov, dampings[key], e, choleskys.get(key), eigen)
                    for e, key in powers
                ]
            ),
            choleskys=tuple([choleskys[key] for key in factor.cholesky]),
            cholesky_inverses=tuple(
                [
                    psd.cholesky_inverse(backend, choleskys[key])
                    for key in factor.cholesky_inverse
                ]
            ),
            eigendecompositions=(
                (eigen,) if factor.eigendecomposition and eigen is not None else ()
            ),
        )

    def diagonal(self, backend: Backend, statistic: Array) -> Array:
        """Return the diagonal, or that of each of a stack."""
        return backend.diagonal(statistic)

    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return backend.telling_entries(statistic)


def residual_of(
    backend: Backend, cov: MovingAverage, damping: Array, inverse: Array, label: str
) -> ResidualRange:
    """Return the residual's range for one matrix, from its sums and in full precision.

    Args:
        backend: Backend of the arrays.
        cov: Average of the statistics ``[n, n]``.
        damping: 0-d.
        inverse: ``[n, n]``.
        label: Name of the factor, for messages.
    """
    one = cov._replace(total=backend.xp.ones_like(cov.weight))
    # The scale of the sums; it is cheaper to apply it to vectors.
    scale = moving_average.value(backend, one, label)
    n = inverse.shape[0]
    traces = (
        psd.trace(backend, cov.total) * scale + n * damping,
        psd.trace(backend, inverse),
    )
    return krylov_range(
        backend,
        lambda v: backend.matmul(cov.total, v) * scale + damping * v,
        lambda v: backend.matmul(inverse, v),
        traces,
        n,
    )
