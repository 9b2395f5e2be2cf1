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
