"""Diagonal Kronecker factors, built as in ``tf.contrib.kfac``."""

from typing import Any, get_args

from kfac_core import fisher_factors as core
from kfac_core.arguments.options import check_word
from kfac_core.contrib.factor_holder import DiagonalFactor
from kfac_core.contrib.forms import (
    SourceList,
    first_array,
    multi_use_sources_of,
    sources_of,
)
from kfac_core.registry import backend_of
from kfac_core.typing import Array, DTypeName


class DiagonalKroneckerFactor(DiagonalFactor):
    """`kfac_core.fisher_factors.DiagonalKroneckerFactor` as of 2022.

    It takes dense rows: ids have the factor `EmbeddingInputKroneckerFactor`.

    Args:
        tensors: List over sources of lists over towers of ``[batch, n]``.
        has_bias: Whether each row ends in a one.
        dtype: Dtype of the statistics; by default that of the rows.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> factor = DiagonalKroneckerFactor([[x]], has_bias=True)
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # and a one
        array([ 5., 10.,  1.])
    """

    forms = (sources_of,)

    def __init__(
        self,
        tensors: SourceList,
        has_bias: bool = False,
        dtype: DTypeName | None = None,
        **options: Any,
    ) -> None:
        sources = sources_of(tensors)
        like = _like(
            first_array(sources, "tensors", self._label(options)),
            dtype,
            self._label(options),
        )
        spec = core.DiagonalKroneckerFactor(like.shape[-1], has_bias, **options)
        super().__init__(spec, (sources,), like)


class DiagonalMultiKF(DiagonalFactor):
    """`kfac_core.fisher_factors.DiagonalMultiKF` as of 2022.

    Args:
        tensors: As in `DiagonalKroneckerFactor`, each tower of ``[T * batch, n]`` (time
            slow), ``[T, batch, n]``, or a list over uses of ``[batch, n]``.
        num_uses: ``T``, or None.
        has_bias: Whether each row ends in a one.
        dtype: Dtype of the statistics; by default that of the rows.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([[1.0, 2.0], [3.0, 4.0]])  # one case, two uses
        >>> factor = DiagonalMultiKF([[x]], num_uses=2)
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([ 5., 10.])
    """

    forms = (multi_use_sources_of,)

    def __init__(
        self,
        tensors: SourceList,
        num_uses: int | None,
        has_bias: bool = False,
        dtype: DTypeName | None = None,
        **options: Any,
    ) -> None:
        sources = multi_use_sources_of(tensors)
        like = _like(
            first_array(sources, "tensors", self._label(options)),
            dtype,
            self._label(options),
        )
        size = like.shape[-1]
        spec = core.DiagonalMultiKF(size, has_bias, num_uses, **options)
        super().__init__(spec, (sources,), like)


def _like(rows: Array, dtype: DTypeName | None, label: str) -> Array:
    """Return rows in the dtype that statistics are to have."""
    if dtype is None:
        return rows
    check_word(dtype, get_args(DTypeName), "dtype", label)
    xp = backend_of(rows).xp
    return xp.astype(rows, getattr(xp, dtype))
