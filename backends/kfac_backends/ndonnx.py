"""ndonnx: arrays that record an ONNX graph, which onnxruntime computes later.

An array of `ndonnx.argument` has no value, as under a trace, and an axis of it may have
any length: ``None`` in its shape. ONNX has no factorisations. Those of this module are
written out, column by column, so that a graph grows with the sizes of the factors.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import ndonnx
import numpy as np

from kfac_backends.array_api import ArrayAPIBackend
from kfac_core import tree
from kfac_core.typing import Array, Device

T = TypeVar("T")


class NDONNXBackend(ArrayAPIBackend):
    """Products in one node each, and factorisations that are written out."""

    def is_traced(self, x: Any) -> bool:
        """Return whether the array has no value yet."""
        return _value(x) is None

    def gram(self, a: Any) -> Array:
        """Return ``a.T @ a`` as one product: the number of rows may be unknown."""
        return self._symmetric(a.mT @ a)

    def cross(self, a: Any, b: Any) -> Array:
        """Return ``a.T @ b`` as one product: the number of rows may be unknown."""
        product: Array = a.mT @ b
        return product

    def sum_of_rows(self, x: Any) -> Array:
        """Return the sum over the first axis, however long it is."""
        return self.xp.sum(x, axis=0)

    def eigh(self, a: Any) -> tuple[Array, Array]:
        """Return the eigendecomposition of an array with a value: ONNX has none.

        Raises:
            NotImplementedError: If the array has no value.
        """
        self._check_has_value(a, "eigendecomposition")
        return super().eigh(a)

    def qr(self, a: Any) -> tuple[Array, Array]:
        """Return both factors of an array with a value: ONNX has none.

        Raises:
            NotImplementedError: If the array has no value.
        """
        self._check_has_value(a, "QR factorisation")
        return super().qr(a)

    def _check_has_value(self, a: Any, what: str) -> None:
        if self.is_traced(a):
            msg = (
                f"ONNX has no {what}: into a graph, export what Cholesky factors"
                " compute, as the damping 'pi' and the power -1"
            )
            raise NotImplementedError(msg)

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by substitution, row by row."""
        if not transpose:
            return _substituted(factor, b)
        xp = self.xp
        lower = xp.flip(factor.mT, axis=(-2, -1))
        return xp.flip(_substituted(lower, xp.flip(b, axis=-2)), axis=-2)

    def chunk_bytes(self, x: Any) -> int | None:
        """Return None: a graph has no loops here."""

    def sum_over(
        self, function: Callable[[Array], Any], x: Array, size: int
    ) -> list[Array]:
        """Take all at once, if their number is unknown."""
        length: int | None = x.shape[0]
        if length is None:
            return [*function(x)]
        return super().sum_over(function, x, size)

    def cond(
        self, condition: Array, then: Callable[[], T], otherwise: Callable[[], T]
    ) -> T:
        """Compute both under a trace, and choose."""
        if not self.is_traced(condition):
            return super().cond(condition, then, otherwise)
        found: T = tree.where(self, condition, then(), otherwise())
        return found

    def to_numpy(self, x: Any) -> Any:
        """Copy the value."""
        return np.array(x.unwrap_numpy())

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy into a constant."""
        constant: Array = ndonnx.asarray(np.array(x, order="C"))
        return constant


def _value(x: Any) -> Any:
    try:
        return x.unwrap_numpy()
    except ValueError:
        return None


def _substituted(lower: Any, b: Any) -> Array:
    """Return the solution of ``L x = b``, where each row follows from those before."""
    solved: Any = None
    for i in range(lower.shape[-1]):
        row = b[..., i : i + 1, :]
        if solved is not None:
            row = row - lower[..., i : i + 1, :i] @ solved
        row = row / lower[..., i : i + 1, i : i + 1]
        solved = row if solved is None else ndonnx.concat([solved, row], axis=-2)
    found: Array = b if solved is None else solved
    return found


def cholesky(x: Any, /) -> Any:
    """Return lower Cholesky factors: column after column is taken off the rest."""
    n, rest = x.shape[-1], x
    columns = []
    for j in range(n):
        column = rest[..., 0:1] / ndonnx.sqrt(rest[..., 0:1, 0:1])
        above = ndonnx.zeros_like(x[..., :j, 0:1])
        columns.append(ndonnx.concat([above, column], axis=-2))
        below = column[..., 1:, :]
        rest = rest[..., 1:, 1:] - below @ below.mT
    return ndonnx.concat(columns, axis=-1) if columns else x


def diagonal(x: Any, /) -> Any:
    """Return the diagonals of matrices."""
    n = x.shape[-1]
    eye = ndonnx.eye(n, dtype=ndonnx.bool)
    return ndonnx.sum(ndonnx.where(eye, x, ndonnx.zeros_like(x)), axis=-1)


def trace(x: Any, /) -> Any:
    """Return the sums of the diagonals of matrices."""
    return ndonnx.sum(diagonal(x), axis=-1)


def eigh(x: Any, /) -> tuple[Any, Any]:
    """Return the eigendecomposition of an array with a value."""
    values, vectors = np.linalg.eigh(x.unwrap_numpy())
    return ndonnx.asarray(values), ndonnx.asarray(vectors)


def qr(x: Any, /) -> tuple[Any, Any]:
    """Return both factors of an array with a value."""
    q, r = np.linalg.qr(x.unwrap_numpy())
    return ndonnx.asarray(q), ndonnx.asarray(r)


def solve(x1: Any, x2: Any, /) -> Any:
    """Return the solution of a general system of arrays with values."""
    return ndonnx.asarray(np.linalg.solve(x1.unwrap_numpy(), x2.unwrap_numpy()))


LINALG = SimpleNamespace(
    cholesky=cholesky, diagonal=diagonal, eigh=eigh, qr=qr, solve=solve, trace=trace
)
"""What of the extension ``linalg`` is needed; ndonnx has none."""

NAMESPACE: Any = SimpleNamespace(**vars(ndonnx))
NAMESPACE.linalg = LINALG

backend = NDONNXBackend(NAMESPACE, "ndonnx")
