"""PyTorch: products of matrices, and sums over rows."""

import contextlib
from typing import Any

import torch

from kfac_backends.array_api import ArrayAPIBackend
from kfac_backends.numpy import backend as on_host
from kfac_backends.numpy_triangles import mirrored
from kfac_backends.runs import ROWS_OF_NARROW_RUN, run_length
from kfac_backends.torch_memory import by_numpy, is_for_numpy, is_plain_matrix
from kfac_backends.torch_precision import no_autocast, no_tf32
from kfac_core.typing import Array, Precision

NARROW = 512
"""Number of columns up to which a whole product is faster than a triangle in panels.

A whole product of more columns is faster too, if there are fewer rows: then writing
costs most. ``python -m benchmarks --library torch --threads 2 --only update_cov``
measures it.
"""


class TorchProducts(ArrayAPIBackend):
    """What PyTorch multiplies and adds.

    Attributes:
        precision: Precision of products.
    """

    precision: Precision

    def matmul(self, a: Any, b: Any) -> Array:
        """Return ``a @ b``; the caller's settings do not lower it to bfloat16 or TF32.

        Under ``torch.compile`` the caller's setting of TF32 does hold, as in `gram`.
        """
        if a.is_cpu and not torch.is_autocast_enabled("cpu"):
            product: Array = a @ b
            return product
        in_full = self.precision == "highest"
        with no_autocast(a), no_tf32(a) if in_full else contextlib.nullcontext():
            exact: Array = a @ b
        return exact

    def gram(self, a: Any) -> Array:
        """Return ``a.T @ a``; settings do not lower it to bfloat16 or TF32.

        Under ``torch.compile`` the caller's setting of TF32 does hold, as it does for
        everything else that is compiled.
        """
        if is_for_numpy(a):
            return by_numpy(on_host.gram, a)
        return super().gram(a)

    def gram_of_run(self, a: Any) -> Array:
        """Return ``a.T @ a``, in one product if rows are few."""
        if _is_of_few_rows(a):
            return _mirrored(a.mT @ a)
        return super().gram_of_run(a)

    def cross(self, a: Any, b: Any) -> Array:
        """Return ``a.T @ b``; with a single column it is a sum, which needs no runs."""
        n, m = a.shape[-1], b.shape[-1]
        if (
            min(n, m) > 1
            or a.shape[-2] <= ROWS_OF_NARROW_RUN
            or torch.compiler.is_compiling()
        ):
            return super().cross(a, b)
        total: Array = (a * b).sum(0).reshape(n, m)
        return total

    def sum_of_rows(self, x: Any) -> Array:
        """Return the sum over the first axis: PyTorch adds in cascades."""
        total: Array = x.sum(0)
        return total

    def sum_of_stack(self, stack: Any) -> Array:
        """Return the sum of matrices; in turn, if their number is symbolic."""
        if torch.compiler.is_compiling():
            in_turn: Array = stack.sum(-3)
            return in_turn
        return super().sum_of_stack(stack)

    def syrk(self, alpha: Any, a: Any, beta: Any, c: Any) -> Array:
        """Return the sum of the Gram matrix and `c`, in one product if rows are few."""
        if is_for_numpy(a, alpha, beta, c):
            return by_numpy(on_host.syrk, alpha, a, beta, c)
        scales = _is_of_few_rows(a, alpha, beta, c) and (alpha.item(), beta.item())
        # BLAS does not read what is multiplied by zero, though it were not finite.
        if not scales or 0 in scales:
            return super().syrk(alpha, a, beta, c)
        return _mirrored(torch.addmm(c, a.mT, a, alpha=scales[0], beta=scales[1]))


def _is_of_few_rows(a: Any, *others: Any) -> bool:
    """Return whether both triangles are computed faster than one is, and copied."""
    # A compiler would take numbers of rows for fixed that are compared.
    if not is_plain_matrix(a, *others) or torch.is_autocast_enabled("cpu"):
        return False
    rows, columns = a.shape
    is_run: bool = rows <= run_length(columns)
    return is_run and (columns < NARROW or rows < columns)


def _mirrored(owned: Any) -> Array:
    """Write the lower triangle of a tensor of our own over the upper one."""
    mirrored(owned.numpy())
    whole: Array = owned
    return whole
