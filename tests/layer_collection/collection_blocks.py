"""The blocks that registrations of each kind of layer make."""

from functools import partial

import kfac_core as kc
from kfac_core import blocks

CONV_2D = {
    "strides": (2, 1),
    "padding": "same",
    "dilations": (1, 2),
    "data_format": "NCHW",
}
KRON_2D = {
    "geometry": kc.ConvolutionGeometry((3, 3, 2, 4), **CONV_2D),
    "has_bias": True,
}


def fully_connected(**options):
    return blocks.FullyConnectedKFACBasicFB(4, 3, has_bias=True, **options)


def fully_connected_multi(**options):
    return blocks.FullyConnectedMultiIndepFB(4, 3, has_bias=True, num_uses=2, **options)


def partial_bias(**options):
    return blocks.FullyConnectedMultiPartialBiasFB(4, 3, (True, False), **options)


def embedding(**options):
    return blocks.EmbeddingKFACFB(7, 5, **options)


def embedding_multi(**options):
    return blocks.EmbeddingKFACMultiIndepFB(7, 5, num_uses=2, **options)


def of_cases(block):
    return {
        "ekfac": blocks.EigenvalueCorrectedFB(block),
        "kronecker_optimal": blocks.KroneckerOptimalFB(block),
        "tnt": blocks.TensorNormalTrainingFB(block),
        "shampoo": blocks.ShampooFB(block),
        "soap": blocks.SoapFB(block),
        "foof": blocks.ForwardOnlyFB(block),
    }


def by_sharing(block):
    """Return the names for weights that positions share, in their order."""
    return {"expand": block, "reduce": blocks.KFACReduceFB(block)}


def convolutions(kernel, dilation):
    """The blocks of a convolution of that filter, stride 2, padding 1 in front."""
    padding = ((1, 0),) * (len(kernel) - 2)
    geometry = kc.ConvolutionGeometry(
        kernel, padding=padding, strides=2, dilations=dilation
    )
    return {
        "kron": blocks.ConvKFCBasicFB(geometry),
        "diagonal": blocks.ConvDiagonalFB(geometry),
        "kron_sua": blocks.ConvKFCBasicFB(
            geometry, use_sua_approx_for_input_factor=True
        ),
        **of_cases(blocks.ConvKFCBasicFB(geometry)),
        **by_sharing(blocks.ConvKFCBasicFB(geometry)),
    }


def transposed(make=blocks.TransposedConvKFCBasicFB, **options):
    return make(
        kc.ConvolutionGeometry(
            (3, 3, 4, 3),
            num_groups=2,
            padding=((1, 1), (0, 1)),
            strides=(2, 1),
            dilations=(1, 2),
            data_format="NCHW",
        ),
        output_padding=(1, 1),
        has_bias=True,
        **options,
    )


def tied(**options):
    uses = ("embedding", "transposed")
    return blocks.TiedWeightsKFACFB(7, 5, uses, has_bias=True, **options)


def bilinear(**options):
    return blocks.BilinearKFACFB(4, 5, 3, has_bias=True, layout="out_in", **options)


GROUPED = kc.ConvolutionGeometry(
    (3, 3, 2, 4),
    num_groups=2,
    padding=((1, 1), (1, 1)),
    strides=(2, 2),
    dilations=(1, 1),
)
GROUPED_TWICE = blocks.GroupedConvKFCBasicMultiIndepFB(GROUPED, num_uses=2)


TRANSPOSED_TWICE = partial(blocks.TransposedConvKFCBasicMultiIndepFB, num_uses=2)
DEPTHWISE = kc.ConvolutionGeometry(
    (3, 3, 2, 2), padding="VALID", strides=(2, 2), dilations=(1, 1)
)
