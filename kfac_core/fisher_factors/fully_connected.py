"""Factors of fully connected layers."""

from dataclasses import dataclass

from kfac_core.arguments import as_sources, as_towers, check_paired, check_towers
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.forms.dense import DenseSquareMatrixFactor
from kfac_core.fisher_factors.forms.diagonal import DiagonalFactor
from kfac_core.fisher_factors.rows import RowsFactor
from kfac_core.row_counts import count_of
from kfac_core.row_weights import roots_of, sides, weights_for
from kfac_core.statistics.rows import SecondMoment, second_moment, squared_moment
from kfac_core.statistics.weighted_rows import Rows, masked, weighed
from kfac_core.typing import Array, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class FullyConnectedKroneckerFactor(RowsFactor, DenseSquareMatrixFactor):
    """Second moment of rows: one side of a fully connected layer's Fisher.

    Estimates ``A = E[a a']`` from layer inputs, or ``G = E[g g']`` from the gradients
    of the summed loss for the layer's outputs (Martens & Grosse, 2015, equation 1 and
    section 3).

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        data_name: What the rows are called in messages.

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

    @property
    def dimension(self) -> int:
        """Length of a row, with the one for the bias."""
        return self.size + self.has_bias

    def _moment(self, backend: Backend, rows: Rows) -> Array:
        arrays, roots, count = rows
        return second_moment(
            backend, arrays, has_bias=self.has_bias, roots=roots, count=count
        )

    def _sample(self, backend: Backend, rows: Rows) -> SecondMoment:
        arrays, roots, count = rows
        return SecondMoment(arrays, self.has_bias, roots, count)


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
        x = check_towers(
            backend, towers, dtype, ("batch", self.input_size), "inputs", label
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
            g = check_towers(backend, source, dtype, shape, "outputs_grads", label)
            check_paired(x, g, label)
            pairs = tuple(zip(x, weighed(backend, g, roots, count).arrays, strict=True))
            moments.append(
                squared_moment(backend, pairs, has_bias=self.has_bias, count=count)
            )
        data = {"inputs": (towers,), "outputs_grads": sources}
        return self._accumulate(backend, state, moments, ema_decay, ema_weight, data)
