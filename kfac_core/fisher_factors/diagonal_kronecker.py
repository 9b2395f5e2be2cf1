"""Diagonal Kronecker factors: one side of a layer's Fisher, kept as its diagonal."""

from dataclasses import dataclass, field

from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.forms.diagonal import Diagonal
from kfac_core.fisher_factors.fully_connected import FullyConnectedKroneckerFactor
from kfac_core.fisher_factors.shared.fully_connected import FullyConnectedMultiKF


@dataclass(frozen=True)
class DiagonalKroneckerFactor(FullyConnectedKroneckerFactor):
    """Diagonal of the second moment of rows.

    It is the diagonal of a `FullyConnectedKroneckerFactor`: the mean of the square of
    each entry. The mode for ids that ``tf.contrib.kfac`` has is
    `EmbeddingInputKroneckerFactor` here.

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        data_name: What the rows are called in messages.

    Example:
        >>> import numpy as np
        >>> factor = DiagonalKroneckerFactor(2, has_bias=True)
        >>> rows = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov_var(state)
        array([ 5., 10.,  1.])
    """

    form: Form = field(default=Diagonal(), kw_only=True)


@dataclass(frozen=True)
class DiagonalMultiKF(FullyConnectedMultiKF):
    """`DiagonalKroneckerFactor` of a shared layer: over the rows of all uses.

    Attributes:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        num_uses: ``T``, or None where the data say it; see `kfac_core.rows.uses`.
        data_name: What the rows are called in messages.

    Example:
        >>> import numpy as np
        >>> factor = DiagonalMultiKF(1)
        >>> rows = np.asarray([[[1.0]], [[3.0]]])
        >>> state = factor.update_cov(factor.init(rows), rows, ema_decay=0.95)
        >>> factor.get_cov_var(state)
        array([5.])
    """

    form: Form = field(default=Diagonal(), kw_only=True)
