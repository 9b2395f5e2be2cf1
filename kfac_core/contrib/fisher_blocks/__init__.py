"""``tf.contrib.kfac.fisher_blocks``: its classes, with its constructors.

Further keyword options (`name`, `damping_type`, `normalize_damping_power`,
`zero_debias`, `init_covariances_at_zero`, and for embeddings `repeated_ids`) are fields
of the spec.
"""

from kfac_core.contrib.block_holder import (
    FisherBlock,
    KroneckerProductFB,
)
from kfac_core.contrib.fisher_blocks.convolution import (
    ConvKFCBasicFB,
)
from kfac_core.contrib.fisher_blocks.convolution_diagonal import (
    ConvDiagonalFB,
)
from kfac_core.contrib.fisher_blocks.convolution_multi import (
    ConvKFCBasicMultiIndepFB,
)
from kfac_core.contrib.fisher_blocks.depthwise_convolution import (
    DepthwiseConvDiagonalFB,
    DepthwiseConvKFCBasicFB,
)
from kfac_core.contrib.fisher_blocks.embedding import (
    EmbeddingKFACFB,
)
from kfac_core.contrib.fisher_blocks.fully_connected import (
    FullyConnectedDiagonalFB,
    FullyConnectedKFACBasicFB,
)
from kfac_core.contrib.fisher_blocks.grouped_convolution import (
    GroupedConvKFCBasicFB,
)
from kfac_core.contrib.fisher_blocks.multi import (
    EmbeddingKFACMultiIndepFB,
    FullyConnectedMultiIndepFB,
    FullyConnectedSeriesFB,
)
from kfac_core.contrib.fisher_blocks.naive import (
    FullFB,
    NaiveDiagonalFB,
    NaiveFullFB,
)
from kfac_core.contrib.fisher_blocks.scale_and_shift import (
    ScaleAndShiftDiagonalFB,
    ScaleAndShiftFullFB,
)
from kfac_core.fisher_blocks import SeriesFBApproximation

__all__ = [
    "ConvDiagonalFB",
    "ConvKFCBasicFB",
    "ConvKFCBasicMultiIndepFB",
    "DepthwiseConvDiagonalFB",
    "DepthwiseConvKFCBasicFB",
    "EmbeddingKFACFB",
    "EmbeddingKFACMultiIndepFB",
    "FisherBlock",
    "FullFB",
    "FullyConnectedDiagonalFB",
    "FullyConnectedKFACBasicFB",
    "FullyConnectedMultiIndepFB",
    "FullyConnectedSeriesFB",
    "GroupedConvKFCBasicFB",
    "KroneckerProductFB",
    "NaiveDiagonalFB",
    "NaiveFullFB",
    "ScaleAndShiftDiagonalFB",
    "ScaleAndShiftFullFB",
    "SeriesFBApproximation",
]
