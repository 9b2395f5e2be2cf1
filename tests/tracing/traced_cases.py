"""One step of each kind of block, as it is traced, compiled and mapped."""

import numpy as np

import kfac_core as kc
from kfac_core import tree

MASK = (((0.5,), (-1.0,)), ((3.0,), (0.7,)))
BLOCKS = {
    "dense": kc.blocks.FullyConnectedKFACBasicFB(3, 2, has_bias=True, cholesky=True),
    "dense-exact": kc.blocks.FullyConnectedKFACBasicFB(3, 2, damping_type="exact"),
    "dense-root": kc.blocks.FullyConnectedKFACBasicFB(3, 2, matpowers=(-1, -0.5)),
    "dense-wide": kc.blocks.FullyConnectedKFACBasicFB(
        3, 2, input_max_rows=8, output_blocks=2
    ),
    "dense-uses": kc.blocks.FullyConnectedMultiIndepFB(
        3, 2, diagonal_approx_for_input=True, damping_type="exact"
    ),
    "series-1": kc.blocks.FullyConnectedSeriesFB(3, 2, option=1),
    "series-2": kc.blocks.FullyConnectedSeriesFB(3, 2, option=2),
    "conv": kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 1, 2), padding="SAME", strides=(1, 2))
    ),
    "conv-pixels": kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 1, 2), padding="SAME", strides=(1, 2)),
        use_sua_approx_for_input_factor=True,
        pixel_weights="usage",
    ),
    "grouped": kc.blocks.GroupedConvKFCBasicFB(
        kc.ConvolutionGeometry(
            (2, 1, 2, 4), num_groups=2, padding="VALID", strides=(1, 2)
        )
    ),
    "transposed": kc.blocks.TransposedConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 1), padding=1, strides=2), has_bias=True
    ),
    "embedding": kc.blocks.EmbeddingKFACFB(4, 2),
    "dense-diagonal": kc.blocks.FullyConnectedDiagonalFB(3, 2),
    "conv-diagonal": kc.blocks.ConvDiagonalFB(
        kc.ConvolutionGeometry((2, 2, 1, 2), padding="SAME", strides=(1, 2)),
        patch_mask=MASK,
    ),
    "depthwise-diagonal": kc.blocks.DepthwiseConvDiagonalFB(
        kc.ConvolutionGeometry((2, 1, 2, 1), padding="VALID")
    ),
    "scale-and-shift": kc.blocks.ScaleAndShiftFullFB((3, 2), (1,), (1,)),
}
STATES = (
    "dense",
    "dense-exact",
    "dense-root",
    "dense-wide",
    "series-1",
    "conv",
    "conv-pixels",
    "grouped",
    "embedding",
    "dense-diagonal",
    "conv-diagonal",
)
"""One block for each form of a state, and for each way to make one."""

INVERSE_ALONE = ("series-1", "series-2")

SETTINGS = [(0.9, 0.3), (0.5, 0.1), (0.0, 1.0)]
"""Decays and dampings that change from step to step."""

PARAMETERS = {
    "dense": ((3, 2), (2,)),
    "conv": ((2, 2, 1, 2),),
    "conv-pixels": ((2, 2, 1, 2),),
    "grouped": ((2, 1, 2, 4),),
    "transposed": ((2, 2, 1), (1,)),
    "conv-diagonal": ((2, 2, 1, 2),),
    "depthwise-diagonal": ((2, 1, 2, 1),),
    "scale-and-shift": ((2,), (2,)),
    "embedding": ((4, 2),),
}
CONVOLUTION = ((6, 3, 3, 1), (6, 3, 2, 2))
SERIES = ((3, 5, 3), (3, 5, 2))
DATA = {
    "conv": CONVOLUTION,
    "conv-pixels": CONVOLUTION,
    "conv-diagonal": CONVOLUTION,
    "grouped": ((6, 3, 3, 4), (6, 2, 2, 4)),
    "transposed": ((6, 3, 2), (6, 4, 1)),
    "depthwise-diagonal": ((6, 3, 2, 2), (6, 2, 2, 2)),
    "scale-and-shift": ((6, 3, 2), (6, 3, 2)),
    "dense-uses": SERIES,
    "series-1": SERIES,
    "series-2": SERIES,
}
"""Shapes of inputs and output gradients, where they are not six rows."""


def data_of(name, rng, *leading):
    """Draw inputs and output gradients; `leading` axes come before the batch."""
    if name == "embedding":
        return rng.integers(0, 4, (*leading, 6, 3)), rng.normal(size=(*leading, 6, 2))
    shapes = DATA.get(name, ((6, 3), (6, 2)))
    x, g = (rng.normal(size=(*leading, *shape)) for shape in shapes)
    return x, g


def vector_of(name, rng, *leading):
    """Draw a vector in the shapes of the parameters."""
    shapes = PARAMETERS.get(name, ((3, 2),))
    tensors = tuple(rng.normal(size=(*leading, *shape)) for shape in shapes)
    return tensors if len(tensors) > 1 else tensors[0]


def step_of(name):
    """Return a function that folds, inverts and multiplies."""
    block = BLOCKS[name]

    def step(state, x, g, vector, decay, damping):
        state = block.update_covs(state, x, g, decay)
        state = block.update_inverses(state, damping)
        return state, block.multiply_inverse(state, vector)

    return step


def comparable(state):
    """Return a state without eigenvectors, whose signs are of no matter."""
    if not isinstance(state, tuple):
        return state
    if hasattr(state, "option1"):
        return state.cov_dt1
    if hasattr(state, "eigendecompositions"):
        return state._replace(eigendecompositions=())
    return tuple(map(comparable, state))


def in_numpy(name, batches, vector):
    """Return state and product after each step, computed eagerly by NumPy."""
    step, state = step_of(name), BLOCKS[name].init(np.zeros(1))
    found = []
    for (x, g), (decay, damping) in zip(batches, SETTINGS, strict=True):
        state, product = step(state, x, g, vector, decay, damping)
        found.append((state, product))
    return found


def assert_close(found, expected):
    found, expected = comparable(found), comparable(expected)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        scale = np.abs(y).max(initial=0)
        np.testing.assert_allclose(np.asarray(x), y, rtol=0, atol=1e-12 * scale)


def assert_equal(found, expected):
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
