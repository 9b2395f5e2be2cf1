"""A small dense network, its estimator, and the sizes of the factors of its layers."""

from estimator_cases import CASES, CATEGORICAL

import kfac_core as kc

MODEL = CASES["dense"].model
ESTIMATOR = kc.FisherEstimator(
    MODEL.layer_collection(CATEGORICAL), estimation_mode="exact"
)
SIZES = [
    (block.input_factor.dimension, block.output_factor.dimension)
    for block in ESTIMATOR.blocks.values()
]
