"""`InEigenbasisFB`: what the blocks that are diagonal in a stored eigenbasis share."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from kfac_core import moving_average, tree
from kfac_core.backend import Backend
from kfac_core.errors import StateError
from kfac_core.fisher_blocks.around.powers_alone import PowersAloneFB
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.case_gradients.gradients import CaseGradients, gradients_of
from kfac_core.fisher_blocks.case_gradients.towers import Data
from kfac_core.fisher_blocks.eigenvalue_corrected.state import CorrectedState
from kfac_core.fisher_blocks.kronecker.product import KroneckerProductFB
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.fisher_factors import Dense, FactorState, FisherFactor
from kfac_core.fisher_factors.eigenbasis import stored_basis
from kfac_core.fisher_factors.forms.followed import FollowedBasis
from kfac_core.linalg import spectrum as spectral
from kfac_core.linalg.in_range import times_power
from kfac_core.linalg.spectrum import Eigenbasis, Spectrum
from kfac_core.moving_average import Ema, MovingAverage
from kfac_core.registry import backend_of
from kfac_core.spec.signature import check_kind
from kfac_core.state import commit, is_known_false, kept
from kfac_core.typing import Array, Params, Scalar, Weights


@dataclass(frozen=True)
class InEigenbasisFB(PowersAloneFB[CorrectedState]):
    """Abstract base of the blocks ``Q diag(f) Q'``, of measured moments.

    ``Q`` is the eigenbasis of the Kronecker product, as of the last `update_inverses`,
    and the moments are mean squares of entries of gradients in it. A subclass says of
    which gradients, and what the entries ``f`` are for these moments.

    Attributes:
        basis: How `update_inverses` finds the eigenvectors of a dense side, from the
            second time on: ``"eigh"``: anew, by an eigendecomposition; ``"qr"``: from
            the last ones, by one step of orthogonal iteration, which costs less. A
            diagonal side has the standard basis, and groups are always done anew.
    """

    basis: Literal["eigh", "qr"] = "eigh"

    damping_type: ClassVar[str] = "exact"

    is_of_means: ClassVar[bool] = False
    """Whether the moments are of the mean gradient, and not of each case's."""

    def _bare(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block that stores its eigenbasis, and serves nothing else."""
        return replace(block, damping_type="exact")

    def _serving(self, block: KroneckerProductFB) -> KroneckerProductFB:
        """Return the block that computes, whose dense sides know how to follow."""
        product = super()._serving(block)
        if self.basis == "qr":
            product._set_factors(*map(_following, product._sides))
        return product

    def init(self, like: Array) -> CorrectedState:
        """Return the state before any data; see `FisherBlock.init`."""
        inner = self._product.init(like)
        return CorrectedState(inner, self._no_moments(inner), self._signed())

    def init_inverses(self, state: CorrectedState) -> CorrectedState:
        """Return `state` with its factors, and nothing computed from them yet."""
        check_kind(state, self._made_by, self.label)
        inner = self._product.init_inverses(state.block)
        return CorrectedState(inner, self._no_moments(inner), self._signed())

    def update_covs(
        self,
        state: CorrectedState,
        inputs: Any,
        outputs_grads: Any,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
        **options: Any,
    ) -> CorrectedState:
        """Fold a batch into factors and moments.

        Arguments and errors are those of the block's own `update_covs`. In moments the
        weights of gradients count, as in the exact diagonal of the layer.

        Returns:
            The new state.
        """
        old = self._own(state).block
        new = self._product.update_covs(
            old,
            inputs,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
            **options,
        )
        backend = backend_of(new.scale)
        has_basis = old.input_factor.computed
        bases = None if is_known_false(backend, has_basis) else self._bases(old)
        if bases is None and not self.is_of_means:
            return state._replace(block=new)
        data = Data(inputs, outputs_grads, weights, new.scale)
        gradients = gradients_of(
            backend, self._product, data, num_cases, is_of_means=self.is_of_means
        )
        ema = self._ema(backend, ema_decay, ema_weight, new.scale)
        new, sample = self._of_batch(backend, old, new, gradients, ema, bases)
        updated = state._replace(block=new)
        if sample is not None:
            # Without a basis the sample is zero, and must count nothing.
            weight = backend.xp.where(has_basis, ema.weight, ema.weight * 0)
            moments = moving_average.fold(
                backend, state.moments, [sample], ema.decay, weight
            )
            updated = updated._replace(moments=moments)
        sums: tuple[Array, ...] = (updated.moments.total,)
        if self.is_of_means:
            sums = (*sums, *(own.cov.total for own in new[:2]))
        return self._committed(backend, updated, state, sums)

    @abstractmethod
    def _of_batch(
        self,
        backend: Backend,
        old: KroneckerState,
        kfac: KroneckerState,
        gradients: CaseGradients,
        ema: Ema,
        bases: tuple[Eigenbasis, Eigenbasis] | None,
    ) -> tuple[KroneckerState, Array | None]:
        """Return the statistics with a batch, and its squares in the stored basis.

        Args:
            backend: Backend of all.
            old: The statistics before.
            kfac: The layer's block, with the statistics of `old` and those of the
                batch.
            gradients: Those of the batch.
            ema: Decay and weight of the batch.
            bases: The stored bases; None: there are none.

        Returns:
            The product's new state; and the sample, ``[rows, columns]``, None without a
            basis.
        """

    def _product_state(self, inner: KroneckerState) -> KroneckerState:
        """Return the state whose product has the scale of the moments."""
        return inner

    def _entries(self, backend: Backend, moments: Array) -> Array:
        """Return the entries of the block for moments."""
        return moments

    def _union(self, states: tuple[CorrectedState, ...]) -> CorrectedState:
        first, *others = states
        inner = self._product.merge(*[state.block for state in states])
        backend = backend_of(inner.scale)
        # Eigenvalues add up in one basis, which the union keeps.
        ok, xp = kept(inner.ok | ~inner.ok), backend.xp
        for other in others:
            pairs = zip(_snapshot(first), _snapshot(other), strict=True)
            for own, its in pairs:
                ok = ok & xp.all(own == its)
        block = inner._replace(
            input_factor=_with_basis(inner.input_factor, first.block.input_factor),
            output_factor=_with_basis(inner.output_factor, first.block.output_factor),
            scale=first.block.scale,
            mean_weight=first.block.mean_weight,
            damping=first.block.damping,
        )
        moments = moving_average.added(backend, [state.moments for state in states])
        new = CorrectedState(block, moments, self._signed())

        def error() -> Exception:
            msg = (
                f"{self.label}: the states are of different bases, or dampings, in"
                " which corrected eigenvalues do not add up; fold all shards into"
                " states of one update_inverses, or drop bases and eigenvalues by"
                " init_inverses of each"
            )
            return StateError(msg)

        fine = ok & new.flag("cov_ok")
        new = commit(backend, ok, new, first, error)
        return whole(backend, new.with_flag("cov_ok", fine), first, "cov_ok")

    def update_inverses(self, state: CorrectedState, damping: Scalar) -> CorrectedState:
        """Compute the basis, and take the moments along.

        Arguments and errors are those of `FisherBlock.update_inverses`.

        Returns:
            The new state.
        """
        old = self._own(state).block
        new = self._product.update_inverses(self._product_state(old), damping)
        new = new._replace(
            input_factor=new.input_factor._replace(cov=old.input_factor.cov),
            output_factor=new.output_factor._replace(cov=old.output_factor.cov),
        )
        backend = backend_of(new.scale)
        pairs = zip(self._bases(new), self._bases(old), strict=True)
        squares = tuple(spectral.overlap(backend, x, y) for x, y in pairs)
        total = spectral.combined(
            backend, Spectrum(squares, state.moments.total), state.moments.total
        )
        # A state without a basis has vectors of zeros, and no weight.
        moments = MovingAverage(total, kept(state.moments.weight + 0))
        updated = state._replace(block=new, moments=moments)
        return whole(backend, updated, state, "derived_ok")

    def inverse_error(self, state: CorrectedState, damping: Scalar) -> Array:
        """Raise an `UnsupportedError`, as blocks with exact damping do."""
        return self._product.inverse_error(self._own(state).block, damping)

    def full_fisher_block(self, state: CorrectedState) -> Array:
        """Return ``Q diag(f) Q'``, dense and undamped; see `FisherBlock`."""
        backend = backend_of(self._own(state).block.scale)
        (spectrum,) = self.spectrum(state)
        return self._laid_out(backend, self._product._dense(backend, spectrum))

    def spectrum(self, state: CorrectedState) -> tuple[Spectrum, ...]:
        """Return the entries in their basis; see `FisherBlock.spectrum`.

        Without a basis they are of the product of the statistics.
        """
        inner = self._own(state).block
        backend = backend_of(inner.scale)
        if not is_known_false(backend, inner.input_factor.computed):
            values = self._eigenvalues(backend, state)
            return (Spectrum(self._bases(inner), values),)
        (found,) = self._product.spectrum(self._product_state(inner))
        values = self._entries(backend, found.eigenvalues)
        return (found._replace(eigenvalues=values),)

    def factors(
        self, state: CorrectedState
    ) -> dict[str, tuple[FisherFactor, FactorState]]:
        """Return the factors that give the basis, each with its state."""
        return self._product.factors(self._own(state).block)

    def _multiply(self, state: CorrectedState, vector: Params, exp: float) -> Params:
        """Return ``Q (f + damping)^exp Q'`` times `vector`."""
        inner = self._own(state).block
        backend = self._vector_backend(state, vector)
        values = self._eigenvalues(backend, state) + inner.damping
        spectrum = Spectrum(self._bases(inner), values)
        (matrix,) = self.to_tensors(backend, vector)
        matrix = backend.xp.astype(matrix, values.dtype)
        powers = times_power(backend.xp.ones_like(values), values, exp)
        product = spectral.apply(backend, spectrum, matrix, lambda _: powers)
        return self.from_tensors(backend, (product,), vector)

    def _eigenvalues(self, backend: Backend, state: CorrectedState) -> Array:
        """Return ``f``: of the moments, or of the product before there are any.

        Raises:
            NotComputedError: If there is no basis yet, outside of a trace.
        """
        xp, inner = backend.xp, state.block
        total, weight = state.moments
        started = weight > 0
        if is_known_false(backend, ~started):
            return self._entries(backend, total / weight)
        undamped = inner._replace(damping=inner.damping * 0)
        of_factors = self._product._exact_eigenvalues(undamped)
        mean = total / xp.where(started, weight, xp.ones_like(weight))
        return self._entries(backend, xp.where(started, mean, of_factors))

    def _bases(self, state: Any) -> tuple[Eigenbasis, Eigenbasis]:
        """Return the stored eigenbases; vectors of zeros before there are any."""
        backend = backend_of(state.scale)
        return (
            stored_basis(backend, self._product.input_factor, state.input_factor),
            stored_basis(backend, self._product.output_factor, state.output_factor),
        )

    def _no_moments(self, state: Any) -> MovingAverage:
        first, second = self._bases(state)
        values = first.values[..., :, None] * second.values[..., None, :] * 0
        return MovingAverage(values, kept(state.scale * 0))


def _snapshot(state: CorrectedState) -> list[Array]:
    """Return what one `update_inverses` computed, and whether it ran."""
    block = state.block
    sides = [(own.derived, own.computed) for own in block[:2]]
    return tree.leaves((*sides, block.scale, block.mean_weight, block.damping))


def _with_basis(factor: FactorState, of: FactorState) -> FactorState:
    """Return a factor's state with what was computed in another."""
    return factor._replace(derived=of.derived, computed=of.computed, extra=of.extra)


def _following(factor: FisherFactor) -> FisherFactor:
    """Return a factor whose dense eigenbasis follows the last one."""
    if type(factor.form) is not Dense:
        return factor
    return replace(factor, form=FollowedBasis())
