"""Factors of fully connected layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import as_sources, as_towers, check_paired, check_towers
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.diagonal import DiagonalFactor
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.moving_average import Sample
from kfac_core.rows.counts import count_of
from kfac_core.rows.uses import MultiSources, all_arrays, arrays_of
from kfac_core.rows.weights import (
    check_same_towers,
    roots_of,
    sides,
    weights_for,
    weights_of_parts,
)
from kfac_core.statistics.rows import squared_moment
from kfac_core.statistics.weighted_rows import Rows, masked, weighed
from kfac_core.typing import Array, Scalar, Sources, Towers, Weights


class Parts(NamedTuple):
    """The rows of one tower.

    Attributes:
        arrays: Arrays of rows.
        uses: How many rows a case has.
        case_slow: Whether all rows of a case follow one another; if not, all rows of a
            use do.
    """

    arrays: tuple[Array, ...]
    uses: int
    case_slow: bool = False


@dataclass(frozen=True)
class FullyConnectedKroneckerFactor(FisherFactor):
    """Second moment of rows: one side of a fully connected layer's Fisher.

    Estimates ``A = E[a a']`` from layer inputs, or ``G = E[g g']`` from the gradients
    of the summed loss for the layer's outputs (Martens & Grosse, 2015, equation 1 and
    section 3).

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        data_name: What the rows are called in messages.
        form: What is kept of the matrix: `Dense`, `Diagonal`, `LowRank` or
            `BlockDiagonal` of `kfac_core.fisher_factors.forms`.

    Example:
        >>> import numpy as np
        >>> factor = FullyConnectedKroneckerFactor(2, matpowers=(-1,))
        >>> rows = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov(state)
        array([[ 5.,  7.],
               [ 7., 10.]])
        >>> state = factor.update_inverses(state, damping=1.0)
        >>> factor.get_inverse(state).matmul(np.asarray([[17.0], [-4.0]]))
        array([[12.64705882],
               [-8.41176471]])
    """

    size: int
    has_bias: bool = False
    data_name: str = field(default="tensors", kw_only=True)

    @property
    def dimension(self) -> int:
        """Length of a row, with the one for the bias."""
        return self.size + self.has_bias

    def update_cov(
        self,
        state: FactorState,
        tensors: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch into the average.

        Args:
            state: The state; left as it is.
            tensors: Rows ``[rows, size]``; or a tuple of these (towers, weighted by
                their rows); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each row counts, ``[rows]``, or a tuple of these (towers):
                zero for a case that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array is not ``[rows, size]``, or there is no row.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        sources = as_sources(tensors)
        backend = self._backend(state, "state, tensors", *all_arrays(sources))
        like, shape = state.cov.total, ("rows", self.size)
        is_plain = weights is None and num_cases is None
        samples: list[Array | Sample] = []
        given: list[tuple[Array, ...]] = []
        count = None
        for towers in sources:
            parts = self._in_parts(backend, towers)
            own = tuple([x for part in parts for x in part.arrays])
            rows = check_towers(
                backend,
                own,
                like.dtype,
                shape,
                self.data_name,
                self.label,
                any_length=is_plain and self.form.takes_any_length,
            )
            if num_cases is not None and not samples:
                count = count_of(backend, num_cases, parts[0].uses, like, self.label)
            if weights is None:
                counting = Rows(rows, None, count)
            else:
                roots = self._roots(backend, parts, weights, like)
                counting = weighed(backend, rows, roots, count)
            samples.append(self.form.of_rows(backend, counting, self.has_bias))
            given.append(own)
        data = {self.data_name: tuple(given)}
        return accumulated(self, backend, state, samples, ema_decay, ema_weight, data)

    def _in_parts(self, backend: Backend, towers: tuple[Any, ...]) -> list[Parts]:
        """Return the rows of each tower."""
        found = []
        for tower in towers:
            arrays = arrays_of(tower)
            found.append(Parts(arrays, len(arrays)))
        return found

    def _roots(
        self,
        backend: Backend,
        parts: Sequence[Parts],
        weights: Weights | None,
        like: Array,
    ) -> tuple[Array, ...] | None:
        """Return the roots of the weights of all arrays."""
        if weights is None:
            return None
        towers = as_towers(weights)
        check_same_towers(towers, parts, self.label)
        each = (
            weights_of_parts(
                backend,
                w,
                own.arrays,
                own.uses,
                like,
                self.label,
                batch_first=self._is_batch_first,
                case_slow=own.case_slow,
            )
            for w, own in zip(towers, parts, strict=True)
        )
        return roots_of(backend, [w for own in each for w in own])

    @property
    def _is_batch_first(self) -> bool:
        """Whether the cases of weights come before their uses."""
        return False


@dataclass(frozen=True)
class FullyConnectedDiagonalFactor(DiagonalFactor):
    """Diagonal of a fully connected layer's Fisher, exact.

    Estimates the mean over cases of the square of each entry of the layer's gradient,
    which is ``outer(a, g)``.

    Attributes:
        input_size: Length of a row of inputs.
        output_size: Length of a row of gradients.
        has_bias: Whether each row of inputs ends in a one that is not stored.

    Example:
        >>> import numpy as np
        >>> factor = FullyConnectedDiagonalFactor(1, 2)
        >>> a, g = np.asarray([[1.0], [3.0]]), np.asarray([[1.0, 2.0], [0.0, 2.0]])
        >>> state = factor.update_cov(factor.init(a), a, g, ema_decay=0.95)
        >>> factor.get_cov_var(state)
        array([[ 0.5, 20. ]])
    """

    input_size: int
    output_size: int
    has_bias: bool = False

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """Shape of the layer's parameters as one matrix, the bias its last row."""
        return (self.input_size + self.has_bias, self.output_size)

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the squared per-case gradients of a batch into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, input_size]``, or a tuple of these (towers).
            outputs_grads: Gradients of the summed loss, ``[batch, output_size]``; or a
                tuple of these (towers); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each row counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, or there
                is no row.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = tuple(g for source in sources for g in source)
        backend = self._backend(
            state, "state, inputs, outputs_grads", *towers, *gradients
        )
        dtype, label = state.cov.total.dtype, self.label
        is_plain = weights is None and num_cases is None
        rows = ("batch", self.input_size)
        x = check_towers(
            backend, towers, dtype, rows, "inputs", label, any_length=is_plain
        )
        shape = ("batch", self.output_size)
        _, w = sides(weights)
        cases = [(rows.shape[0],) for rows in x]
        roots = roots_of(
            backend, weights_for(backend, w, cases, state.cov.total, label)
        )
        count = count_of(backend, num_cases, 1, state.cov.total, label)
        if roots is not None:
            x = tuple(masked(backend, *pair) for pair in zip(x, roots, strict=True))
        moments = []
        for source in sources:
            g = check_towers(
                backend,
                source,
                dtype,
                shape,
                "outputs_grads",
                label,
                any_length=is_plain,
            )
            check_paired(x, g, label, any_length=is_plain)
            pairs = tuple(zip(x, weighed(backend, g, roots, count).arrays, strict=True))
            moments.append(
                squared_moment(backend, pairs, has_bias=self.has_bias, count=count)
            )
        data = {"inputs": (towers,), "outputs_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)
