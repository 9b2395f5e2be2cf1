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
        holes: Steps of the data, between which there are zeros: more than one where the
            convolution is a transposed one.
        mirrored: Whether the kernel of a transposed convolution runs backwards.
        data_axes: Axes of the data as ``[batch, ..spatial.., channels]``.
        output_axes: Axes of the output in the same order.
    """

    layout: KernelLayout
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    holes: tuple[int, ...]
    mirrored: bool
    data_axes: tuple[int, ...]
    output_axes: tuple[int, ...]

    kind: ClassVar[str] = "convolution"

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.strides)

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return any(step > 1 for step in self.holes)

    @property
    def adjoint(self) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
        """Padding of the convolution that this transposes, and outputs that it adds."""
        kernel = [self.form.shape[i] for i, c in enumerate(self.layout) if c in "DHW"]
        reach = [(k - 1) * step for k, step in zip(kernel, self.dilation, strict=True)]
        pairs = [*zip(reach, self.padding, strict=True)]
        padding = tuple(
            (most - low, max(most - high, 0)) for most, (low, high) in pairs
        )
        return padding, tuple(max(high - most, 0) for most, (_, high) in pairs)

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
            if self.is_transposed and not self.mirrored:
                axes = [i for i, letter in enumerate(self.layout) if letter in spatial]
                kernel = jnp.flip(kernel, axes)
            return jax.lax.conv_general_dilated(
                inputs,
                kernel,
                self.strides,
                self.padding,
                lhs_dilation=self.holes,
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
    numbers, strides = params["dimension_numbers"], tuple(params["window_strides"])
    rank = len(strides)
    if which != 1:
        return "a convolution with the parameter as its data"
    if params["batch_group_count"] != 1:
        return "a convolution in groups of the batch"
    if not 1 <= rank <= 3:
        return f"a convolution of {rank} spatial axes"
    if leaf.view.is_broadcast:
        return "a convolution after a broadcast"
    axes, shape = leaf.view.axes, leaf.view.shape
    letters = dict(zip(numbers.rhs_spec, "OI" + "DHW"[-rank:], strict=True))
    order = list(range(len(axes)))
    if all(axes):  # as the parameter has them; an axis of size one has no place
        order.sort(key=lambda axis: axes[axis])
    if "DHW"[-rank:] not in "".join(letters[axis] for axis in order):
        order = [*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0]]
    atoms = [atom for axis in order for atom in axes[axis]]
    holes = tuple(params["lhs_dilation"])
    is_transposed = any(step > 1 for step in holes)
    spatial = [atom.place for axis in numbers.rhs_spec[2:] for atom in axes[axis]]
    if leaf.reversed and (not is_transposed or leaf.reversed != frozenset(spatial)):
        return "a convolution after rev"
    if is_transposed and (params["feature_group_count"] > 1 or set(strides) != {1}):
        return "a transposed convolution in groups, or with steps of its windows"
    found = Convolution(
        site,
        leaf.part,
        form_of(leaf.shape, atoms, [shape[axis] for axis in order]),
        tuple(output.shape),
        output.dtype,
        (numbers.out_spec[1],),
        0,
        "".join(letters[axis] for axis in order),
        strides,
        tuple((int(low), int(high)) for low, high in params["padding"]),
        tuple(params["rhs_dilation"]),
        params["feature_group_count"],
        holes,
        not leaf.reversed,
        _channels_last(numbers.lhs_spec),
        _channels_last(numbers.out_spec),
    )
    if is_transposed and any(low < 0 for (low, _) in found.adjoint[0]):
        return "a transposed convolution with more padding than its kernel has"
    return found


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of ``(batch, channels, ..spatial..)`` with the channels last."""
    return (spec[0], *spec[2:], spec[1])
