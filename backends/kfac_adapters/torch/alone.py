"""What a model makes of a parameter alone, entry by entry: ``1 - w``, ``exp(w)``.

A product with ``v = f(w)`` has the derivative ``f'(w)`` times that by ``v``. These
factors go into the inputs and the gradients of a layer's rows. For scales, shifts and
tables they are any; for matrices and kernels, a product of what is along inputs and of
what is along outputs, since others leave no Kronecker product.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from kfac_adapters.torch.rules import Call
from kfac_adapters.torch.views import View

_NAMES = (
    *("add", "sub", "rsub", "mul", "multiply", "div", "divide", "true_divide", "neg"),
    *("negative", "subtract", "__rsub__", "__radd__", "__rmul__", "__truediv__"),
    *("__rdiv__", "__rtruediv__", "reciprocal", "exp", "exp2", "expm1", "log", "log1p"),
    *("log2", "log10", "sqrt", "rsqrt", "square", "pow", "__pow__", "__rpow__", "abs"),
    *("sigmoid", "tanh", "sin", "cos", "clamp", "clamp_min", "clamp_max", "clip"),
    *("softplus", "relu", "elu", "silu", "gelu", "leaky_relu", "hardtanh", "erf"),
    *("masked_fill", "where"),
)
BY_ENTRY: frozenset[Any] = frozenset(
    getattr(owner, name)
    for owner in (torch, torch.Tensor, torch.nn.functional)
    for name in _NAMES
    if hasattr(owner, name)
)
"""Functions whose results have of a parameter the entry at the same place."""


@dataclass(frozen=True)
class MadeOfOne:
    """A tensor that is made of one parameter, entry by entry.

    Attributes:
        base: The tensor, of which others may be views.
        view: Which view of the parameter it would be.
        factor: The derivative of its entries by those of the parameter.
        steps: Names of the functions that made it.
    """

    base: torch.Tensor
    view: View
    factor: torch.Tensor
    steps: tuple[str, ...]

    def of_view(self, view: View) -> "MadeOfOne":
        """Return a view of it, which is all of the parameter."""
        factor = self.factor
        if view.part is not None:
            own = slice(view.part.start, view.part.stop)
            factor = factor[own.start] if view.part.is_stacked else factor[own]
        if view.is_transposed:
            factor = factor.mT
        return replace(self, view=view, factor=factor)


def made_of_one(
    func: Any,
    args: Any,
    kwargs: Any,
    result: Any,
    views: Mapping[int, View],
    known: Mapping[int, MadeOfOne],
) -> MadeOfOne | None:
    """Return what a function made of one parameter, if it did so entry by entry.

    Args:
        func: The function.
        args: Its arguments.
        kwargs: Its arguments by name.
        result: What it returned.
        views: Views of parameters, by their ids.
        known: Those of them that are made already.

    Returns:
        The tensor; None of any other function, or if a graph of something else goes in.
    """
    if func not in BY_ENTRY or not isinstance(result, torch.Tensor):
        return None
    given = [*args, *kwargs.values()]
    own = [x for x in given if isinstance(x, torch.Tensor) and id(x) in views]
    others = [x for x in given if isinstance(x, torch.Tensor) and id(x) not in views]
    if len(own) != 1 or any(x.requires_grad for x in others):
        return None
    (param,) = own
    if param.shape != result.shape or not result.requires_grad:
        return None
    with torch.enable_grad():
        free = param.detach().clone().requires_grad_()

        def swapped(x: Any) -> Any:
            return free if x is param else x

        made = func(
            *map(swapped, args), **{name: swapped(x) for name, x in kwargs.items()}
        )
        (factor,) = torch.autograd.grad(made.sum(), free)
    before = known.get(id(param))
    steps: tuple[str, ...] = (str(getattr(func, "__name__", func)),)
    if before is not None:
        factor, steps = factor * before.factor, (*before.steps, *steps)
    return MadeOfOne(result, views[id(param)], factor, steps)


def in_parameter(made: MadeOfOne, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the factors in the axes of the parameter, or of its part."""
    factor = made.factor
    if made.view.is_transposed:
        factor = factor.mT
    return factor.reshape(shape) if made.view.is_reshaped else factor


def with_factors(call: Call, factor: torch.Tensor, steps: tuple[str, ...]) -> Call:
    """Return the call of a layer as one of the parameter that its weight is made of.

    Args:
        call: The call, without a bias that is a parameter.
        factor: The derivative of the weight by the parameter, of its shape.
        steps: Names of the functions that made it.

    Returns:
        The call; one that says why there is none, if there is not.
    """
    if call.kind == "scale":
        return replace(call, inputs=call.inputs * factor.to(call.inputs.dtype))
    if call.kind == "embedding":
        if call.axes:  # bags
            return _refused(call, steps) if _varies(factor) else _of_bags(call, factor)
        ids = call.inputs.clamp(min=0)
        rows = factor.mT if "layout" in call.options else factor

        def by_row(gradient: torch.Tensor) -> torch.Tensor:
            return call.pulls(gradient) * rows[ids].to(gradient.dtype)

        return replace(call, pulls=by_row)
    layout = call.options["layout"]
    last = factor if layout in ("out_in", "OIHW") else factor.transpose(0, 1)
    sides = _sides(last)
    groups = call.options.get("num_groups", 1)
    if sides is None or (groups > 1 and _varies(sides[1])):
        return _refused(call, steps)
    of_outputs, of_inputs = sides
    if groups > 1:
        of_outputs, of_inputs = of_outputs * of_inputs[0], of_inputs.new_ones(1)
    spatial = [1] * (factor.ndim - 2)
    inputs = call.inputs * of_inputs.reshape(-1, *spatial).to(call.inputs.dtype)
    if not _varies(of_outputs):
        return replace(call, inputs=inputs)

    def pulls(gradient: torch.Tensor) -> torch.Tensor:
        own = of_outputs.reshape(-1, *spatial).to(gradient.dtype)
        return call.pulls(gradient) * own

    return replace(call, inputs=inputs, pulls=pulls)


def bias_with_factors(call: Call, factor: torch.Tensor) -> Call:
    """Return the call of a layer as that of what its bias is made of."""

    def pulls_bias(gradient: torch.Tensor) -> torch.Tensor:
        return call.pulls_bias(gradient) * factor.to(gradient.dtype)

    return replace(call, pulls_bias=pulls_bias)


def shift_alone(call: Call, shape: tuple[int, ...]) -> Call:
    """Return the call of a layer as that of its bias alone.

    Args:
        call: The call.
        shape: Shape of the outputs.
    """
    nothing = call.inputs.new_zeros((), dtype=torch.float32).expand(shape)
    return replace(
        call,
        kind="shift",
        weight=None,
        inputs=nothing,
        axes=0,
        computes=torch.mul,
        options={},
    )


def _sides(factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return factors of outputs and of inputs whose product ``[out, in, ...]`` are.

    None if they are no such product. What is one for all outputs is of the inputs.
    """
    if not factor.numel():
        return None
    flat = factor.reshape(*factor.shape[:2], -1)
    place = int(flat.abs().argmax())
    row, rest = divmod(place, flat.shape[1] * flat.shape[2])
    column, at = divmod(rest, flat.shape[2])
    of_inputs, largest = flat[row, :, at], flat[row, column, at]
    if largest == 0:
        return None
    of_outputs = flat[:, column, at] / largest
    product = (of_outputs[:, None] * of_inputs)[..., None]
    rounding = 16 * torch.finfo(factor.dtype).eps * largest.abs()
    if not ((flat - product).abs() <= rounding).all():
        return None
    return of_outputs, of_inputs


def _varies(factor: torch.Tensor) -> bool:
    return bool((factor != factor.reshape(-1)[0]).any())


def _of_bags(call: Call, factor: torch.Tensor) -> Call:
    number = factor.reshape(-1)[0]
    return replace(call, pulls=lambda gradient: call.pulls(gradient) * number)


def _refused(call: Call, steps: tuple[str, ...]) -> Call:
    return replace(
        call,
        refused=(
            f"its weight is made by {', '.join(steps)} with numbers that are no product"
            " of one along inputs and one along outputs, which leaves no Kronecker"
            " product"
        ),
    )
