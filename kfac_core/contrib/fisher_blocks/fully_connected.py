"""Blocks of fully connected layers, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import (
    KroneckerProductFB,
    LayerBlock,
)
from kfac_core.contrib.forms import first_array


class FullyConnectedKFACBasicFB(KroneckerProductFB):
    """`kfac_core.fisher_blocks.FullyConnectedKFACBasicFB` as of r1.10 and since.

    Args:
        layer_collection: What the block belongs to; may be None.
        has_bias: Whether the layer has a bias.
        diagonal_approx_for_input: Whether the input factor is diagonal.
        diagonal_approx_for_output: Whether the output factor is diagonal.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> block = FullyConnectedKFACBasicFB(None)
        >>> x, g = np.asarray([[1.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [1.0]])
        >>> block.register_additional_tower(inputs=x, outputs=g)
        >>> block.instantiate_factors([[g]], damping=0.5)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.instantiate_inv_variables()
        >>> for op in block.make_inverse_update_ops():
        ...     op()
        >>> block.multiply_inverse(np.ones((2, 1))).round(3)
        array([[0.5],
               [0.5]])
    """

    def __init__(
        self,
        layer_collection: Any,
        has_bias: bool = False,
        diagonal_approx_for_input: bool = False,
        diagonal_approx_for_output: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments = (
            has_bias,
            diagonal_approx_for_input,
            diagonal_approx_for_output,
        )

    def _make_spec(self, *data: Any) -> core.FullyConnectedKFACBasicFB:
        inputs, gradients = data
        return core.FullyConnectedKFACBasicFB(
            first_array(inputs, "inputs", self._label).shape[-1],
            first_array(gradients, "grads_list", self._label).shape[-1],
            *self._arguments,
            **self._options,
        )


class FullyConnectedDiagonalFB(LayerBlock):
    """`kfac_core.fisher_blocks.FullyConnectedDiagonalFB` as of r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        has_bias: Whether the layer has a bias.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> for kind in (FullyConnectedDiagonalFB, FullyConnectedKFACBasicFB):
        ...     block = kind(None)
        ...     block.register_additional_tower(inputs=x, outputs=0 * g)
        ...     block.instantiate_factors([[g]], damping=0.1)
        ...     block.make_covariance_update_op(ema_decay=0.95)()
        ...     print(block.full_fisher_block().diagonal())  # exact, and K-FAC
        [2.  4.5]
        [10.   2.5]
    """

    def __init__(
        self, layer_collection: Any, has_bias: bool = False, **options: Any
    ) -> None:
        super().__init__(layer_collection, **options)
        self._has_bias = has_bias

    def _make_spec(self, *data: Any) -> core.FullyConnectedDiagonalFB:
        inputs, gradients = data
        return core.FullyConnectedDiagonalFB(
            first_array(inputs, "inputs", self._label).shape[-1],
            first_array(gradients, "grads_list", self._label).shape[-1],
            self._has_bias,
            **self._options,
        )
