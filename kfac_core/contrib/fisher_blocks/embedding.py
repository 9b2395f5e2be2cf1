"""The block of an embedding, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import (
    KroneckerProductFB,
)
from kfac_core.contrib.forms import first_array


class EmbeddingKFACFB(KroneckerProductFB):
    """`kfac_core.fisher_blocks.EmbeddingKFACFB` as of r1.7.

    Args:
        layer_collection: What the block belongs to; may be None.
        vocab_size: Number of ids.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> ids, g = np.asarray([[0], [2]]), np.ones((2, 1))
        >>> block = EmbeddingKFACFB(None, vocab_size=4)
        >>> block.register_additional_tower(inputs=ids, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block().diagonal()  # how often each id is used
        array([0.5, 0. , 0.5, 0. ])
    """

    def __init__(self, layer_collection: Any, vocab_size: int, **options: Any) -> None:
        super().__init__(layer_collection, **options)
        self._vocab_size = vocab_size

    def _make_spec(self, *data: Any) -> core.EmbeddingKFACFB:
        _, gradients = data
        return core.EmbeddingKFACFB(
            self._vocab_size,
            first_array(gradients, "grads_list", self._label).shape[-1],
            **self._options,
        )
