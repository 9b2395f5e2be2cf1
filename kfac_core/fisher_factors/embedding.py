"""The factor for the input of an embedding."""

from dataclasses import dataclass, field
from numbers import Integral

from kfac_core.arguments.arrays import (
    as_towers,
    backend_for,
    check_indices,
    check_not_empty,
)
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.fisher_factors.base.diagonal import DiagonalFactor
from kfac_core.fisher_factors.base.state import FactorState, first_state
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import sides, weights_for
from kfac_core.statistics.ids import RepeatedIds, id_second_moment
from kfac_core.typing import Array, DType, DTypeName, Scalar, Towers, Weights


@dataclass(frozen=True)
class EmbeddingInputKroneckerFactor(DiagonalFactor):
    """Diagonal second moment of the n-hot vectors that ids stand for.

    The diagonal loses nothing where every case has one id. The cost grows with the
    number of ids: no one-hot vector is made. The manual of ``tf.contrib.kfac`` and its
    code disagree where an id is repeated within a case; see `repeated_ids`.

    Attributes:
        vocab_size: Number of ids.
        dtype: Dtype of the statistics, ``"float32"`` or ``"float64"``; by default
            that of the array given to `init`, or float32 where it holds ids.
        repeated_ids: How an id that is repeated within a case counts: ``"n_hot"``
            (once, the formula in the manual of ``tf.contrib.kfac``), ``"count"`` (each
            time, what ``tf.contrib.kfac`` computes) or ``"count_squared"`` (the exact
            diagonal where embeddings are summed).
        padding_id: Id that stands for no id, and counts nothing (PyTorch's
            ``padding_idx``); None: every id counts.
        negative_ids_are_padding: Whether ids below zero stand for no id. If not, they
            are an error.

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
    padding_id: int | None = field(default=None, kw_only=True)
    negative_ids_are_padding: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ArgumentError: If an option is unknown.
        """
        super().__post_init__()
        check_padding(self.padding_id, self.vocab_size, self.label)

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
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the counts of a batch of ids into the average.

        Args:
            state: The state; left as it is.
            input_ids: Integers in ``[0, vocab_size)``, or padding, ``[batch]`` or
                ``[batch, m]`` for ``m`` ids a case; or a tuple of these (towers).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If ids have another rank, or there is no case.
            DTypeError: If ids are not integers.
            ArgumentError: If an id (which under a trace counts nothing), the decay, a
                weight or `num_cases` is out of range.
        """
        towers = as_towers(input_ids)
        backend = self._backend(state, "state, input_ids", *towers)
        for ids in towers:
            self._check_rank(ids)
        check_not_empty(towers, "input_ids", self.label)
        like, shapes = state.cov.total, [(ids.shape[0],) for ids in towers]
        own = weights_for(backend, sides(weights)[0], shapes, like, self.label)
        # The ids of a case of weight zero are not checked, and count nowhere.
        judged, counted = towers, towers
        if own is not None:
            judged, counted = (
                tuple(
                    _put(backend, value, ids, w <= 0)
                    for ids, w in zip(towers, own, strict=True)
                )
                for value in (0, -1)
            )
        for ids in judged:
            self._check_ids(backend, ids)
        count = count_of(backend, num_cases, 1, like, self.label)
        moment = id_second_moment(
            backend,
            [self._without_padding(backend, ids) for ids in counted],
            self.vocab_size,
            like.dtype,
            self.repeated_ids,
            weights=own,
            count=count,
        )
        return accumulated(self, backend, state, [moment], ema_decay, ema_weight, {})

    def known_cases(
        self, backend: Backend, input_ids: Towers, dtype: DType
    ) -> tuple[Array, ...] | None:
        """Return which cases have an id that counts.

        Args:
            backend: Backend of the ids.
            input_ids: As in `update_cov`.
            dtype: Dtype of the result.

        Returns:
            For each tower ``[batch]``: one, or zero where all ids of a case are padding
            or, under a trace, out of range. None where all ids are known to count.
        """
        towers = as_towers(input_ids)
        has_padding = self.padding_id is not None or self.negative_ids_are_padding
        if not has_padding and not any(map(backend.is_traced, towers)):
            return None
        xp = backend.xp
        found = []
        for tower in towers:
            ids = self._without_padding(backend, tower)
            ids = xp.reshape(ids, (ids.shape[0], -1))
            known = xp.any((ids >= 0) & (ids < self.vocab_size), axis=1)
            found.append(xp.astype(known, dtype))
        return tuple(found)

    def _without_padding(self, backend: Backend, ids: Array) -> Array:
        """Return ids, with numbers below zero in place of padding."""
        if self.padding_id is None:
            return ids
        return _put(backend, -1, ids, backend.xp.equal(ids, self.padding_id))

    def _check_rank(self, ids: Array) -> None:
        if ids.ndim not in {1, 2}:
            msg = (
                f"{self.label}: input_ids has shape {tuple(ids.shape)}, expected"
                " [batch] or [batch, ids of a case]"
            )
            raise ShapeError(msg)

    def _check_ids(self, backend: Backend, ids: Array) -> None:
        least = None if self.negative_ids_are_padding else 0
        check_indices(backend, ids, self.vocab_size, "input_ids", self.label, least)

    def init(self, like: Array) -> FactorState:
        """Return the state before any data, in the dtype that the spec names.

        Args:
            like: Array that gives library and device, and the dtype where the spec
                names none (at least float32; float32 for ids).

        Returns:
            The state.

        Raises:
            DTypeError: If the dtype is none that the library has enabled.
        """
        return first_state(self, like, self._dtype(like))

    def _dtype(self, like: Array) -> DType | None:
        backend = backend_for(self.label, "like", like)
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
        return xp.float32 if xp.isdtype(like.dtype, "integral") else None


def _put(backend: Backend, value: int, ids: Array, where: Array) -> Array:
    """Return ids with a value in place of some ids, or of all ids of some cases."""
    xp = backend.xp
    if xp.isdtype(ids.dtype, "unsigned integer"):
        ids = xp.astype(ids, xp.int64)
    if where.ndim < ids.ndim:
        where = where[:, None]
    return xp.where(where, xp.full_like(ids, value), ids)


def check_padding(padding_id: object, vocab_size: int, layer: str) -> None:
    """Check the id that stands for no id.

    Raises:
        ArgumentError: If it is neither None nor an id.
    """
    if padding_id is None:
        return
    fits = isinstance(padding_id, Integral) and not isinstance(padding_id, bool)
    if not fits or not 0 <= int(padding_id) < vocab_size:  # type: ignore[call-overload]
        msg = (
            f"{layer}: padding_id is {shown(padding_id)}, expected None or an id of 0"
            f" to {vocab_size - 1}; for ids below zero, give"
            " negative_ids_are_padding=True"
        )
        raise ArgumentError(msg)
