"""PyTorch: stacks of small matrices, each inverted as it would be alone."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_leaves

from kfac_backends.array_api import ArrayAPIBackend
from kfac_backends.torch_memory import are_plain, empty_like, is_traced
from kfac_core.typing import Array

T = TypeVar("T")

LARGEST_BATCHED = 128
"""Largest size of matrices that the CPU factorises faster as a stack."""

LARGEST_STACKED = 64
"""Largest size for which LAPACK on a stack is faster than on each matrix.

``python -m benchmarks --library torch --only "64 factors"`` measures it.
"""


class TorchStacks(ArrayAPIBackend):
    """What PyTorch computes of whole stacks."""

    def vmap(self, function: Callable[..., T], *stacks: Any) -> T:
        """Map by `torch.func.vmap`, where that is faster than one after the other."""
        # A compiler writes the loop out.
        if torch.compiler.is_compiling() or not all(
            map(self.batches, tree_leaves(stacks))
        ):
            return super().vmap(function, *stacks)
        mapped: T = torch.func.vmap(function)(*stacks)
        return mapped

    def batches(self, x: Any) -> bool:
        """Return True on accelerators, and where starting an operation costs most."""
        return not x.is_cpu or x.ndim < 2 or x.shape[-1] <= LARGEST_BATCHED

    def members(self, x: Any) -> list[Array]:
        """Copy all in one operation, where it has values."""
        return super().members(x) if is_traced(x) else [*torch.unbind_copy(x)]

    def damped_inverses(self, stack: Any, dampings: Any) -> tuple[list[Array], Array]:
        """Damp, factorise and invert one copy of a stack, or each of its matrices."""
        if not stack.is_cpu or not stack.shape[-1] or not are_plain(stack, dampings):
            return super().damped_inverses(stack, dampings)
        if stack.shape[-1] > LARGEST_STACKED:
            pairs = zip(stack.unbind(), dampings.unbind(), strict=True)
            found: Any = [self.damped_inverse(*pair) for pair in pairs]
            traces = torch.stack([inverse.trace() for inverse in found])
            return found, torch.isfinite(traces)
        damped = empty_like(stack).copy_(stack)
        damped.diagonal(dim1=-2, dim2=-1).add_(dampings[:, None])
        return _inverses(damped)


def _inverses(stack: Any) -> tuple[list[Array], Array]:
    """Return the inverses of matrices, symmetric bit for bit.

    Args:
        stack: ``[count, n, n]``, symmetric, in C order, whose memory is changed.

    Returns:
        As many matrices, NaN where one is not positive definite; and whether each is
        finite.
    """
    # LAPACK's order is that of columns: its upper triangle is the lower one here.
    columns, info = stack.mT, torch.empty(len(stack), dtype=torch.int32)
    torch.linalg.cholesky_ex(columns, upper=True, out=(columns, info))
    pivots = stack.diagonal(dim1=-2, dim2=-1)
    failed = (info != 0) | ~torch.isfinite(pivots.sum(-1))
    # LAPACK would raise for a pivot of zero.
    pivots.masked_fill_(failed[:, None], torch.nan)
    torch.cholesky_inverse(columns, upper=True, out=columns)
    return [*torch.unbind_copy(stack)], torch.isfinite(pivots.sum(-1))
