"""Blocks from the batch-summed gradient, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import (
    NaiveBlock,
)
from kfac_core.linalg.parameters import num_entries


class NaiveFullFB(NaiveBlock):
    """`kfac_core.fisher_blocks.NaiveFullFB`; ``FullFB`` until r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The parameters, a tensor or a tuple of these.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> gradient = np.asarray([2.0, 4.0])  # summed over four cases
        >>> block = NaiveFullFB(None, params=np.zeros(2))
        >>> block.register_additional_tower(batch_size=4)
        >>> block.instantiate_factors([gradient], damping=1.0)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()
        array([[1., 2.],
               [2., 4.]])
    """

    def _make_spec(self, *data: Any) -> core.NaiveFullFB:
        return core.NaiveFullFB(num_entries(self._params), **self._options)


FullFB = NaiveFullFB


class NaiveDiagonalFB(NaiveBlock):
    """`kfac_core.fisher_blocks.NaiveDiagonalFB` as of r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The parameters, a tensor or a tuple of these.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> gradient = np.asarray([2.0, 4.0])  # summed over four cases
        >>> block = NaiveDiagonalFB(None, params=np.zeros(2))
        >>> block.register_additional_tower(batch_size=4)
        >>> block.instantiate_factors([gradient], damping=1.0)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.make_inverse_update_ops()[0]()
        >>> block.multiply_inverse(gradient)  # 2 / (1 + 1), 4 / (4 + 1)
        array([1. , 0.8])
    """

    def _make_spec(self, *data: Any) -> core.NaiveDiagonalFB:
        return core.NaiveDiagonalFB(num_entries(self._params), **self._options)
