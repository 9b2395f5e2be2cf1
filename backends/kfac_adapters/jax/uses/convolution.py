"""Convolutions: ``conv_general_dilated`` of data and a parameter."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kfac_adapters.jax.forms import form_of
from kfac_adapters.jax.uses.base import Leaf, Use
from kfac_core.linalg.layouts import KernelLayout


@dataclass(frozen=True)
class Convolution(Use):
    """A convolution, of one to three spatial axes, in groups or not.

    Attributes:
        layout: How the kernel lies in its form.
        strides: Steps of the windows.
        padding: Before and after each spatial axis.
        dilation: Steps within the kernel.
        groups: Number of groups of channels.
        data_axes: Axes of the data as ``[batch, ..spatial.., channels]``.
        output_axes: Axes of the output in the same order.
    """

    layout: KernelLayout
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    data_axes: tuple[int, ...]
    output_axes: tuple[int, ...]

    kind: ClassVar[str] = "convolution"

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.strides)

    @property
    def _rows(self) -> tuple[int, ...]:
        """Number of images."""
        return (self.shape[self.output_axes[0]],)

    def _inputs(self, operand: Any) -> Any:
        """Return ``[batch, ..spatial.., channels]``."""
        return jnp.transpose(operand, self.data_axes)

    def _gradients(self, output: Any) -> Any:
        """Return ``[batch, ..spatial.., channels]``."""
        return jnp.transpose(output, self.output_axes)

    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return the transpose of the convolution, of gradients."""
        inputs, gradients = (
            x.reshape(-1, *x.shape[self.lead + 1 :]) for x in (inputs, gradients)
        )
        spatial = "DHW"[-self.rank :]
        data = f"N{spatial}C"

        def convolved(kernel: Any) -> Any:
            return jax.lax.conv_general_dilated(
                inputs,
                kernel,
                self.strides,
                self.padding,
                rhs_dilation=self.dilation,
                dimension_numbers=(data, self.layout, data),
                feature_group_count=self.groups,
            )

        zeros = jnp.zeros(self.form.shape, inputs.dtype)
        like, back = jax.vjp(convolved, zeros)
        return back(gradients.astype(like.dtype))[0]


def convolution(
    site: str, which: int, leaf: Leaf, operands: Any, params: Any, output: Any
) -> Convolution | str:
    """Return the use of a parameter by a convolution; see `dense` for the arguments."""
    numbers, rank = params["dimension_numbers"], len(params["window_strides"])
    if which != 1:
        return "a convolution with the parameter as its data"
    if params["batch_group_count"] != 1:
        return "a convolution in groups of the batch"
    if any(step != 1 for step in params["lhs_dilation"]):
        return "a transposed convolution (data with holes)"
    if not 1 <= rank <= 3:
        return f"a convolution of {rank} spatial axes"
    if leaf.view.is_broadcast:
        return "a convolution after a broadcast"
    axes, shape = leaf.view.axes, leaf.view.shape
    letters = dict(zip(numbers.rhs_spec, "OI" + "DHW"[-rank:], strict=True))
    order = list(range(len(axes)))
    if all(axes):  # as the parameter has them; an axis of size one has no place
        order.sort(key=lambda axis: axes[axis])
    atoms = [atom for axis in order for atom in axes[axis]]
    return Convolution(
        site,
        leaf.part,
        form_of(leaf.shape, atoms, [shape[axis] for axis in order]),
        tuple(output.shape),
        output.dtype,
        (numbers.out_spec[1],),
        0,
        "".join(letters[axis] for axis in order),
        tuple(params["window_strides"]),
        tuple((int(low), int(high)) for low, high in params["padding"]),
        tuple(params["rhs_dilation"]),
        params["feature_group_count"],
        _channels_last(numbers.lhs_spec),
        _channels_last(numbers.out_spec),
    )


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of ``(batch, channels, ..spatial..)`` with the channels last."""
    return (spec[0], *spec[2:], spec[1])
