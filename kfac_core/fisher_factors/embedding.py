"""The factor for the input of an embedding."""

from dataclasses import dataclass

from kfac_core.arguments import (
    as_towers,
    check_indices,
    check_not_empty,
    statistics_dtype,
)
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.fisher_factors.diagonal import DiagonalFactor
from kfac_core.fisher_factors.state import FactorState
from kfac_core.statistics.embedding import RepeatedIds, id_second_moment
from kfac_core.typing import Array, DType, DTypeName, Scalar, Towers


@dataclass(frozen=True)
class EmbeddingInputKroneckerFactor(DiagonalFactor):
    """Diagonal second moment of the n-hot vectors that ids stand for.

    Exact, as a Kronecker factor, where every case has one id. Costs by the ids: no
    one-hot vector is made. The original's formula and its code disagree where an id is
    repeated within a case; see `repeated_ids`.

    Attributes:
        vocab_size: Number of ids.
        dtype: Dtype of the statistics, ``"float32"`` or ``"float64"``; by default
            that of the array given to `init`, or float32 where it holds ids.
        repeated_ids: How an id that is repeated within a case counts: ``"n_hot"``
            (once, the formula of the original's manual), ``"count"`` (each time, what
            the original computes) or ``"count_squared"`` (the exact diagonal where
            embeddings are summed).

    Example:
        >>> import numpy as np
        >>> factor = EmbeddingInputKroneckerFactor(vocab_size=5)
        >>> ids = np.asarray([[0], [1], [4]])
        >>> state = factor.update_cov(factor.init(ids), ids, ema_decay=0.0)
        >>> factor.get_cov_var(state) * 3
        array([1., 1., 0., 0., 1.], dtype=float32)
    """

    vocab_size: int
    dtype: DTypeName | None = None
    repeated_ids: RepeatedIds = "n_hot"

    def __post_init__(self) -> None:
        """Check the names of the options.

        Raises:
            ArgumentError: If one is unknown.
        """
        super().__post_init__()
        if self.dtype not in {None, "float32", "float64"}:
            msg = (
                f"{self.label}: dtype is {self.dtype!r}, expected 'float32', 'float64'"
            )
            raise ArgumentError(msg)
        if self.repeated_ids not in {"n_hot", "count", "count_squared"}:
            msg = (
                f"{self.label}: repeated_ids is {self.repeated_ids!r}, expected"
                " 'n_hot', 'count' or 'count_squared'"
            )
            raise ArgumentError(msg)

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(vocab_size,)``."""
        return (self.vocab_size,)

    def update_cov(
        self,
        state: FactorState,
        input_ids: Towers,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the counts of a batch of ids into the average.

        Args:
            state: The state; left as it is.
            input_ids: Integers in ``[0, vocab_size)``, ``[batch]`` or ``[batch, m]``
                for ``m`` ids a case; or a tuple of these (towers).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.

        Returns:
            The new state.

        Raises:
            ShapeError: If ids have another rank, or there is no case.
            DTypeError: If ids are not integers.
            ArgumentError: If an id is out of range (under a trace it counts nothing),
                or the decay or the weight is.
        """
        towers = as_towers(input_ids)
        backend = self._backend(state, *towers)
        for ids in towers:
            self._check_ids(backend, ids)
        check_not_empty(towers, "input_ids", self.label)
        moment = id_second_moment(
            backend, towers, self.vocab_size, state.cov.total.dtype, self.repeated_ids
        )
        return self._accumulate(backend, state, [moment], ema_decay, ema_weight, {})

    def _check_ids(self, backend: Backend, ids: Array) -> None:
        if ids.ndim not in {1, 2}:
            msg = (
                f"{self.label}: input_ids has shape {tuple(ids.shape)}, expected"
                " [batch] or [batch, ids of a case]"
            )
            raise ShapeError(msg)
        check_indices(backend, ids, self.vocab_size, "input_ids", self.label)

    def _state_dtype(self, backend: Backend, like: Array) -> DType:
        xp = backend.xp
        if self.dtype is not None:
            known = xp.__array_namespace_info__().dtypes(kind="real floating")
            if self.dtype not in known:
                msg = (
                    f"{self.label}: dtype is {self.dtype!r}, but only"
                    f" {', '.join(known)} is enabled in {backend.name}; enable it first"
                    " (JAX: the setting jax_enable_x64)"
                )
                raise DTypeError(msg)
            return known[self.dtype]
        if xp.isdtype(like.dtype, "integral"):
            return xp.float32
        return statistics_dtype(backend, like, "like", self.label)
