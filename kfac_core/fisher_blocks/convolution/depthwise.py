"""Blocks of depthwise convolutions.

A separable convolution is two layers, a depthwise one and a pointwise one. The first
has a block of this module; the second has a `ConvKFCBasicFB` with the filter ``(1, 1,
in_channels * multiplier, out_channels)`` and ``"VALID"`` padding.
"""

from dataclasses import dataclass, field, replace

from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_blocks.convolution.grouped import GroupedKroneckerFB
from kfac_core.fisher_factors.convolution.depthwise import DepthwiseConvDiagonalFactor
from kfac_core.fisher_factors.convolution.spec import prepare
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.typing import Scalar, Sources, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class DepthwiseConvKFCBasicFB(GroupedKroneckerFB):
    """KFC of a depthwise convolution: a `ConvKFCBasicFB` for each input channel.

    ``F = blockdiag(P kron(E[p_i p_i'], E[g_i g_i']))`` over input channels ``i``, for
    ``P`` locations, with the patches ``[kernel]`` of one channel and the gradients of
    its ``multiplier`` outputs. It is a grouped convolution with as many groups as input
    channels, and each is damped with its own pi. ``tf.contrib.kfac`` inverts a dense
    convolution's block and drops the entries off the structure, which is the inverse of
    neither.

    Attributes:
        geometry: The convolution's geometry, without groups. Its `filter_shape` is
            ``(..kernel.., in_channels, multiplier)``, and output channel ``i *
            multiplier + m`` belongs to input channel ``i``. In any layout but
            ``"HWIO"`` it has an axis of inputs of size one, and one of all outputs:
            PyTorch's weights are ``(in_channels * multiplier, 1, ..kernel..)`` in the
            layout ``"OIHW"``.
        has_bias: Whether the layer has a bias, ``[in_channels * multiplier]``.
        multiplier: Number of outputs of each input channel, where the shape does not
            tell it: in any layout but ``"HWIO"``, where None is 1.

    Example:
        >>> import numpy as np
        >>> geometry = ConvolutionGeometry((1, 1, 2, 1), padding="VALID")
        >>> block = DepthwiseConvKFCBasicFB(geometry)
        >>> x = np.asarray([[1.0, 2.0]]).reshape(1, 1, 1, 2)
        >>> g = np.asarray([[3.0, 1.0]]).reshape(1, 1, 1, 2)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[9., 0.],
               [0., 4.]])
    """

    has_bias: bool = False
    multiplier: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Make the factors, once."""
        prepare(self)
        super().__post_init__()
        self._set_layout(self.geometry.weights)
        *_, channels, multiplier = _depthwise_shape(self)
        self._make_factors(channels, 1, multiplier, has_bias=self.has_bias)


@takes_older_calls
@dataclass(frozen=True)
class DepthwiseConvDiagonalFB(SingleFactorFB):
    """The exact diagonal of a depthwise convolution's Fisher.

    Attributes:
        geometry: As in `DepthwiseConvKFCBasicFB`.
        has_bias: Whether the layer has a bias, ``[in_channels * multiplier]``;
            ``tf.contrib.kfac`` has none.
        multiplier: As in `DepthwiseConvKFCBasicFB`.

    Example:
        >>> import numpy as np
        >>> geometry = ConvolutionGeometry((1, 1, 2, 2), padding="VALID")
        >>> block = DepthwiseConvDiagonalFB(geometry)
        >>> x = np.asarray([[1.0, 2.0], [3.0, -1.0]]).reshape(2, 1, 1, 2)
        >>> g = np.asarray([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]])
        >>> g = g.reshape(2, 1, 1, 4)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([ 0.5,  6.5, 18. , 32.5])
    """

    geometry: ConvolutionGeometry
    has_bias: bool = False
    multiplier: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Make the factor, once."""
        prepare(self)
        super().__post_init__()
        self._set_layout(self.geometry.weights)
        shape = _depthwise_shape(self)
        factor = DepthwiseConvDiagonalFactor(
            replace(self.geometry, filter_shape=shape, layout="HWIO"),
            self.has_bias,
            name=self.label,
            **self._served(),
        )
        self._set_factor(factor)

    def update_covs(
        self,
        state: SingleFactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Arguments and errors are those of `ConvKFCBasicFB.update_covs`; there are
        ``in_channels * multiplier`` output channels.

        Returns:
            The new state.
        """
        factor = self.factor.update_cov(
            self._own(state).factor,
            inputs,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
        )
        return state._replace(factor=factor)


def _depthwise_shape(
    block: DepthwiseConvKFCBasicFB | DepthwiseConvDiagonalFB,
) -> tuple[int, ...]:
    """Return the shape of a block's weights with an axis for each channel.

    Args:
        block: The block, its geometry checked.

    Returns:
        ``(..kernel.., in_channels, multiplier)``.

    Raises:
        ArgumentError: If the multiplier does not fit.
        ShapeError: If the axis of inputs of the weights is not of size one.
    """
    geometry, multiplier = block.geometry, block.multiplier
    *kernel, inputs, outputs = geometry.shape
    if geometry.layout in {"HWIO", "WIO", "DHWIO"}:
        if multiplier not in {None, outputs}:
            msg = (
                f"{block.label}: multiplier is {multiplier}, but the weights"
                f" {geometry.weights} say {outputs}; leave it out"
            )
            raise ArgumentError(msg)
        return geometry.shape
    if inputs != 1:
        msg = (
            f"{block.label}: filter_shape is {geometry.weights}, expected an axis of"
            " inputs of size one beside that of all outputs"
        )
        raise ShapeError(msg)
    multiplier = 1 if multiplier is None else multiplier
    if outputs % multiplier:
        msg = (
            f"{block.label}: multiplier is {multiplier}, expected a divisor of the"
            f" {outputs} outputs of {geometry.weights}"
        )
        raise ArgumentError(msg)
    return (*kernel, outputs // multiplier, multiplier)
