"""Blocks of depthwise convolutions.

A separable convolution is two layers, a depthwise one and a pointwise one. The first
has a block of this module; the second has a `ConvKFCBasicFB` with the filter ``(1, 1,
in_channels * multiplier, out_channels)`` and ``"VALID"`` padding.
"""

from dataclasses import dataclass, field

from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_blocks.convolution.grouped import GroupedKroneckerFB
from kfac_core.fisher_factors.convolution.depthwise import DepthwiseConvDiagonalFactor
from kfac_core.fisher_factors.convolution.spec import prepare
from kfac_core.linalg.layouts import KernelLayout
from kfac_core.statistics.patches.geometry import Padding
from kfac_core.typing import Scalar, Sources, Towers, Weights


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
        filter_shape: ``(..kernel.., in_channels, multiplier)``; output channel ``i *
            multiplier + m`` belongs to input channel ``i``. With the layout ``"OIHW"``
            of PyTorch's weights: ``(in_channels * multiplier, 1, ..kernel..)``.
        strides: For each spatial axis, or of full rank; None: 1.
        padding: As in `ConvKFCBasicFB`.
        rate: Dilation, for each spatial axis, or of full rank; None: 1.
        data_format: As in `ConvKFCBasicFB`.
        has_bias: Whether the layer has a bias, ``[in_channels * multiplier]``.
        layout: ``"HWIO"``, the kernel first, then inputs and multiplier; or ``"OIHW"``,
            all outputs, then an axis of size one, then the kernel. The same names hold
            in one and three dimensions.
        multiplier: Number of outputs of each input channel, where the shape does not
            tell it: in the layout ``"OIHW"``, where None is 1.

    Example:
        >>> import numpy as np
        >>> block = DepthwiseConvKFCBasicFB((1, 1, 2, 1), None, "VALID")
        >>> x = np.asarray([[1.0, 2.0]]).reshape(1, 1, 1, 2)
        >>> g = np.asarray([[3.0, 1.0]]).reshape(1, 1, 1, 2)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[9., 0.],
               [0., 4.]])
    """

    strides: tuple[int, ...] | int | None
    padding: Padding
    rate: tuple[int, ...] | int | None = None
    data_format: str | None = None
    has_bias: bool = False
    layout: KernelLayout = field(default="HWIO", kw_only=True)
    multiplier: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        shape = _depthwise_shape(self)
        prepare(self, "rate", shape)
        channels, multiplier = shape[-2:]
        self._make_factors(channels, 1, multiplier, has_bias=self.has_bias)


@dataclass(frozen=True)
class DepthwiseConvDiagonalFB(SingleFactorFB):
    """The exact diagonal of a depthwise convolution's Fisher.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, multiplier)``, the shape of the
            weights; or another, as in `DepthwiseConvKFCBasicFB`.
        strides: For each spatial axis, or of full rank; None: 1.
        padding: As in `ConvKFCBasicFB`.
        rate: Dilation, for each spatial axis, or of full rank; None: 1.
        data_format: As in `ConvKFCBasicFB`.
        has_bias: Whether the layer has a bias, ``[in_channels * multiplier]``;
            ``tf.contrib.kfac`` has none.
        layout: As in `DepthwiseConvKFCBasicFB`.
        multiplier: As in `DepthwiseConvKFCBasicFB`.

    Example:
        >>> import numpy as np
        >>> block = DepthwiseConvDiagonalFB((1, 1, 2, 2), None, "VALID")
        >>> x = np.asarray([[1.0, 2.0], [3.0, -1.0]]).reshape(2, 1, 1, 2)
        >>> g = np.asarray([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]])
        >>> g = g.reshape(2, 1, 1, 4)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([ 0.5,  6.5, 18. , 32.5])
    """

    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | int | None
    padding: Padding
    rate: tuple[int, ...] | int | None = None
    data_format: str | None = None
    has_bias: bool = False
    layout: KernelLayout = field(default="HWIO", kw_only=True)
    multiplier: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Make the factor, once."""
        super().__post_init__()
        factor = DepthwiseConvDiagonalFactor(
            _depthwise_shape(self),
            self.strides,
            self.padding,
            self.rate,
            self.data_format,
            self.has_bias,
            name=self.label,
            **self._served(),
        )
        for name in ("strides", "padding", "rate"):
            object.__setattr__(self, name, getattr(factor, name))
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
    """Set a block's layout, and return the shape of its weights in our order.

    Args:
        block: The block, its sizes checked.

    Returns:
        ``(..kernel.., in_channels, multiplier)``.

    Raises:
        ArgumentError: If the layout is unknown, or the multiplier does not fit.
        ShapeError: If the axis of inputs of the weights is not of size one.
    """
    shape = block._set_kernel_layout(block.layout, block.filter_shape, block.label)
    *kernel, inputs, outputs = shape
    multiplier = block.multiplier
    if block.layout in {"HWIO", "WIO", "DHWIO"}:
        if multiplier not in {None, outputs}:
            msg = (
                f"{block.label}: multiplier is {multiplier}, but filter_shape"
                f" {block.filter_shape} says {outputs}; leave it out"
            )
            raise ArgumentError(msg)
        return shape
    if inputs != 1:
        msg = (
            f"{block.label}: filter_shape is {block.filter_shape} in the layout"
            f" {block.layout!r}, expected an axis of inputs of size one beside that of"
            " all outputs"
        )
        raise ShapeError(msg)
    multiplier = 1 if multiplier is None else multiplier
    if outputs % multiplier:
        msg = (
            f"{block.label}: multiplier is {multiplier}, expected a divisor of the"
            f" {outputs} outputs of filter_shape {block.filter_shape}"
        )
        raise ArgumentError(msg)
    return (*kernel, outputs // multiplier, multiplier)
