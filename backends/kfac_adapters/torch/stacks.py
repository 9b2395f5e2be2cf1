"""Products with a stack of matrices, as experts and ensembles have it, one by one.

``x @ w`` with ``w`` of ``[stack, in, out]`` is a layer for each matrix of the stack.
Here each is multiplied on its own, so that it is seen as one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

IsParam = Callable[[torch.Tensor], bool]
"""Whether a tensor is a parameter, or a view of one."""

_PRODUCTS = {torch.bmm, torch.Tensor.bmm, torch.matmul, torch.Tensor.matmul}


def of_stack(
    func: Any, args: Sequence[Any], is_param: IsParam
) -> Callable[..., torch.Tensor] | None:
    """Return what is called in place of a product with a stack of matrices.

    Args:
        func: The function that is called.
        args: Its arguments.
        is_param: Whether a tensor is a parameter.

    Returns:
        A function of the same arguments, which computes the same, but for rounding;
        None of any other function, or of a product that has no such stack.
    """
    if func is torch.einsum:
        return _of_einsum(args, is_param)
    if func is torch.baddbmm and len(args) == 3:
        inner = of_stack(torch.bmm, args[1:], is_param)
        return None if inner is None else lambda bias, x, w: bias + inner(x, w)
    if func not in _PRODUCTS or len(args) != 2:
        return None
    left, right = args
    if not all(isinstance(x, torch.Tensor) for x in args):
        return None
    if is_param(left) == is_param(right) or {left.ndim, right.ndim} - {2, 3}:
        return None
    stack, other = (left, right) if is_param(left) else (right, left)
    if stack.ndim != 3 or (other.ndim == 3 and len(other) not in (1, len(stack))):
        return None

    def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        made = [_at(left, i) @ _at(right, i) for i in range(len(stack))]
        return torch.stack(made)

    return product


def _at(x: torch.Tensor, place: int) -> torch.Tensor:
    """Return a matrix of a stack, or of one that is the same for all of another."""
    if x.ndim == 2:
        return x
    return x[0 if len(x) == 1 else place]


def _of_einsum(
    args: Sequence[Any], is_param: IsParam
) -> Callable[..., torch.Tensor] | None:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = [*operands[0]]
    given, arrow, out = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if not arrow or "." in equation or [len(terms), len(operands)] != [2, 2]:
        return None
    if sum(map(is_param, operands)) != 1:
        return None
    place = 0 if is_param(operands[0]) else 1
    axis = terms[place][:1]
    is_stack = len(terms[place]) == 3 and axis in terms[1 - place] and axis in out
    if not is_stack or any(len({*term}) < len(term) for term in (*terms, out)):
        return None
    each = ",".join(term.replace(axis, "") for term in terms)
    each = f"{each}->{out.replace(axis, '')}"
    size, places = len(operands[place]), [term.index(axis) for term in terms]

    def product(*_: Any) -> torch.Tensor:
        made = []
        for i in range(size):
            own = [
                x[i] if at == 0 else x.select(at, i)
                for x, at in zip(operands, places, strict=True)
            ]
            made.append(torch.einsum(each, *own))
        return torch.stack(made, out.index(axis))

    return product
