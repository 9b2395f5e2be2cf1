"""Parameters of more than two axes as the matrices that `torch.einsum` takes them for.

As projections to heads: ``einsum("nd,dhk->nhk", x, w)`` is the product with a matrix of
``d`` rows and ``h * k`` columns, and its layer that of this matrix.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from kfac_adapters.torch.rules import Call
from kfac_adapters.torch.views import View


class Matrix(NamedTuple):
    """A parameter whose axes are joined to those of inputs and of outputs.

    Attributes:
        name: Its name.
        order: Its axes, those of the inputs first.
        inputs: How many these are.
    """

    name: str
    order: tuple[int, ...]
    inputs: int

    @property
    def maker(self) -> str:
        """What made it, for messages."""
        return "einsum"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parameters that it is made of."""
        return (self.name,)

    def of(self, array: torch.Tensor) -> torch.Tensor:
        """Return the parameter, or a gradient of it, as a matrix."""
        moved = array.permute(self.order)
        rows = math.prod(moved.shape[: self.inputs])
        return moved.reshape(rows, -1)

    def weight(self, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the matrix, without a graph."""
        return self.of(params[self.name].detach())

    def seen(
        self, params: Mapping[str, torch.Tensor], gradient: torch.Tensor
    ) -> torch.Tensor:
        """Return what `gradient` returns where the matrix has a gradient."""
        return gradient

    def gradient(
        self,
        params: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor | None],
    ) -> torch.Tensor | None:
        """Return the gradient for the matrix, if the parameter has one."""
        own = gradients.get(self.name)
        return None if own is None else self.of(own)

    def steps(
        self, params: Mapping[str, torch.Tensor], step: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the step of the parameter that is one of the matrix."""
        shape = params[self.name].shape
        moved = step.reshape([shape[i] for i in self.order])
        back = [self.order.index(i) for i in range(len(self.order))]
        return {self.name: moved.permute(back)}


def einsum_of_heads(
    equation: str, operands: Sequence[torch.Tensor], views: Mapping[int, View]
) -> tuple[Call, Matrix, torch.Tensor] | None:
    """Read a product of an array and a parameter of three axes or more.

    Args:
        equation: Such as ``"nd,dhk->nhk"``: each axis of the parameter is summed over,
            or goes into the outputs, and none is that of a batch.
        operands: The array and the parameter, in either order.
        views: Views of parameters, by their ids.

    Returns:
        The call, the matrix and the parameter; None of any other equation.
    """
    given, arrow, out = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    own_places = [i for i, x in enumerate(operands) if id(x) in views]
    if (
        not arrow
        or len(terms) != 2
        or len(own_places) != 1
        or "." in terms[own_places[0]]
    ):
        return None
    (place,) = own_places
    param, x = operands[place], operands[1 - place]
    own, other = terms[place], terms[1 - place]
    view = views[id(param)]
    if view != View(view.name) or len({*own}) < max(len(own), 3):
        return None
    summed = [axis for axis in own if axis in other and axis not in out]
    made = [axis for axis in own if axis in out and axis not in other]
    rest = "".join(axis for axis in out if axis not in made)
    kept = [axis for axis in other if axis not in summed]
    if (
        not summed
        or len(summed) + len(made) != len(own)
        or sorted(kept) != sorted(rest)
    ):
        return None
    matrix = Matrix(
        view.name, tuple(own.index(axis) for axis in [*summed, *made]), len(summed)
    )
    joined, columns = "".join(summed), "".join(made)
    inputs = torch.einsum(f"{other}->{rest}{joined}", x.detach())

    def pulls(gradient: torch.Tensor) -> torch.Tensor:
        moved = torch.einsum(f"{out}->{rest}{columns}", gradient)
        return moved.reshape(*moved.shape[: moved.ndim - len(columns)], -1)

    call: dict[str, Any] = {"options": {"layout": "in_out"}}
    flat = inputs.reshape(*inputs.shape[: inputs.ndim - len(joined)], -1)
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.matmul
    weight = matrix.of(param.detach())
    return Call("linear", weight, None, flat, 1, product, pulls, **call), matrix, param
