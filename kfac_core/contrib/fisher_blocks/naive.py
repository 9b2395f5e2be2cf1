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
    """

    def _make_spec(self, *data: Any) -> core.NaiveDiagonalFB:
        return core.NaiveDiagonalFB(num_entries(self._params), **self._options)
