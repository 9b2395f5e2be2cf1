"""``tf.contrib.kfac.fisher_blocks``: the original's constructors.

Keyword options beyond the original's (`name`, `damping_type`,
`normalize_damping_power`, `zero_debias`, `init_covariances_at_zero`, and for embeddings
`repeated_ids`) are fields of the spec.
"""

from kfac_core.contrib.block_holder import (
    FisherBlock,
    KroneckerProductFB,
)
from kfac_core.contrib.fisher_blocks.convolution import (
    ConvDiagonalFB,
    ConvKFCBasicFB,
)
from kfac_core.contrib.fisher_blocks.embedding import (
    EmbeddingKFACFB,
)
from kfac_core.contrib.fisher_blocks.fully_connected import (
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
)
from kfac_core.contrib.fisher_blocks.naive import (
    FullFB,
    NaiveDiagonalFB,
    NaiveFullFB,
)

__all__ = [
    "ConvDiagonalFB",
    "ConvKFCBasicFB",
    "EmbeddingKFACFB",
    "FisherBlock",
    "FullFB",
    "FullyConnectedDiagonalFB",
    "FullyConnectedKFACBasicFB",
    "KroneckerProductFB",
    "NaiveDiagonalFB",
    "NaiveFullFB",
]
