"""The factor for the input of an embedding, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import (
    DiagonalFactor,
)
from kfac_core.contrib.forms import TowerList, first_array, towers_of
from kfac_core.typing import DTypeName


class EmbeddingInputKroneckerFactor(DiagonalFactor):
    """`kfac_core.fisher_factors.EmbeddingInputKroneckerFactor` as of r1.8.

    Args:
        input_ids: List over towers of integers ``[batch]`` or ``[batch, m]``.
        vocab_size: Number of ids.
        dtype: Dtype of the statistics; by default float32.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> ids = np.asarray([[0], [1], [1], [3]])
        >>> factor = EmbeddingInputKroneckerFactor([ids], vocab_size=4, dtype="float64")
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # shares of the ids
        array([0.25, 0.5 , 0.  , 0.25])
    """

    forms = (towers_of,)

    def __init__(
        self,
        input_ids: TowerList,
        vocab_size: int,
        dtype: DTypeName | None = None,
        **options: Any,
    ) -> None:
        towers = towers_of(input_ids)
        spec = core.EmbeddingInputKroneckerFactor(vocab_size, dtype, **options)
        super().__init__(
            spec, (towers,), like=first_array(towers, "input_ids", self._label(options))
        )
