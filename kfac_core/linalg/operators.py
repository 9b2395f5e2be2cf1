"""Linear operators: a square matrix that is stored whole, or as its diagonal.

The interface is that of ``LinearOperatorFullMatrix`` and ``LinearOperatorDiag`` in
``tf.contrib.kfac``.
"""

from typing import NamedTuple, Protocol

from kfac_core.arguments.arrays import backend_for, statistics_dtype
from kfac_core.arguments.sizes import as_flag
from kfac_core.backend import Backend
from kfac_core.errors import BackendError, ShapeError
from kfac_core.linalg import psd
from kfac_core.registry import backend_of
from kfac_core.state import check_finite
from kfac_core.typing import Array


class LinearOperator(Protocol):
    """A square matrix, known by its products.

    Example:
        >>> import numpy as np
        >>> operator: LinearOperator = DiagonalOperator(np.asarray([2.0, 3.0]))
        >>> operator.matmul(np.asarray([[1.0], [1.0]]))
        array([[2.],
               [3.]])
        >>> float(operator.trace())
        5.0
    """

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint` and `adjoint_arg` transpose each."""

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint` and `adjoint_arg` transpose each."""

    def trace(self) -> Array:
        """Return the trace, 0-d."""

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``."""


class FullMatrixOperator(NamedTuple):
    """A matrix stored whole.

    Attributes:
        matrix: ``[n, n]``.

    Example:
        >>> import numpy as np
        >>> operator = FullMatrixOperator(np.asarray([[1.0, 2.0], [0.0, 1.0]]))
        >>> operator.matmul(np.ones((2, 1)), adjoint=True)
        array([[1.],
               [3.]])
    """

    matrix: Array

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns, of each matrix of a stack."""
        return self.matrix.shape[-1]

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint` and `adjoint_arg` transpose each."""
        backend, matrix, x = operands(self, self.matrix, x, adjoint_arg)
        if adjoint is not False:
            matrix = _transposed(matrix, adjoint, "adjoint")
        return backend.matmul(matrix, x)

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint` and `adjoint_arg` transpose each."""
        backend, matrix, x = operands(self, self.matrix, x, adjoint_arg, -1)
        if adjoint is not False:
            matrix = _transposed(matrix, adjoint, "adjoint")
        return backend.matmul(x, matrix)

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        return psd.trace(backend_of(self.matrix), self.matrix)

    def to_dense(self) -> Array:
        """Return the matrix itself, ``[n, n]``."""
        return self.matrix


class DiagonalOperator(NamedTuple):
    """A diagonal matrix stored as its diagonal.

    Attributes:
        diagonal: ``[n]``.

    Example:
        >>> import numpy as np
        >>> DiagonalOperator(np.asarray([1.0, 2.0])).matmul_right(np.ones((1, 2)))
        array([[1., 2.]])
    """

    diagonal: Array

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""
        return self.diagonal.shape[0]

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return `x`, or its transpose, with each row scaled."""
        del adjoint  # A diagonal matrix is its own transpose.
        _, diagonal, x = operands(self, self.diagonal, x, adjoint_arg)
        return diagonal[:, None] * x

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return `x`, or its transpose, with each column scaled."""
        del adjoint
        _, diagonal, x = operands(self, self.diagonal, x, adjoint_arg, -1)
        return x * diagonal[None, :]

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        return backend_of(self.diagonal).xp.sum(self.diagonal)

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``, zeros included."""
        backend = backend_of(self.diagonal)
        n = self.diagonal.shape[0]
        device = backend.creation_device(self.diagonal)
        eye = backend.xp.eye(n, dtype=self.diagonal.dtype, device=device)
        return eye * self.diagonal[:, None]


def multiply(
    operator: LinearOperator,
    x: Array,
    vector_shape: tuple[int, ...],
    layer: str,
    *,
    right: bool = False,
) -> Array:
    """Return ``operator @ x``, or ``x @ operator``, in the form of `x`.

    Args:
        operator: An operator of dimension ``n``.
        x: ``[n, k]`` (on the right side ``[k, n]``), ``[n]``, or a vector of
            `vector_shape`.
        vector_shape: A shape with ``n`` entries that stands for a vector.
        layer: Name of the layer or factor, for the message.
        right: Whether the operator is on the right.

    Returns:
        The product, of the shape and dtype of `x`.

    Raises:
        ShapeError: If `x` has another shape.
        NotFiniteError: If `x` holds NaN or infinity. Under a trace the product holds
            it.
        BackendError: If `x` is not an array, or of another library or device.
    """
    n = operator.domain_dimension
    backend = backend_for(layer, "x", x)
    statistics_dtype(backend, x, "x", layer)
    operand = x
    if tuple(x.shape) in {(n,), vector_shape}:
        operand = backend.xp.reshape(x, (1, n) if right else (n, 1))
    elif x.ndim != 2 or x.shape[1 if right else 0] != n:
        expected = f"[k, {n}]" if right else f"[{n}, k]"
        msg = (
            f"{layer}: x has shape {tuple(x.shape)}, expected {expected} or a vector"
            f" of {n}"
        )
        raise ShapeError(msg)
    check_finite(backend, x, "x", layer)
    try:
        product = operator.matmul_right(operand) if right else operator.matmul(operand)
    except BackendError as error:
        msg = f"{layer}: x: {error}"
        raise BackendError(msg) from None
    return backend.xp.astype(backend.xp.reshape(product, x.shape), x.dtype)


def operands(
    operator: LinearOperator,
    stored: Array,
    x: Array,
    adjoint_arg: bool,
    axis: int = -2,
) -> tuple[Backend, Array, Array]:
    """Return what an operator stores, and what it multiplies, in one dtype.

    Args:
        operator: An operator of dimension ``n``.
        stored: An array that the operator stores.
        x: ``[n, k]``, on the right side ``[k, n]``; or the transpose.
        adjoint_arg: Whether `x` is the transpose.
        axis: The axis of ``n``: -2, or -1 where the operator is on the right.

    Returns:
        The backend of both, which multiplies in full precision; the array; and `x`,
        transposed with `adjoint_arg`.

    Raises:
        BackendError: If `x` is not an array, or of another library or device.
        DTypeError: If `x` does not hold real numbers.
        ShapeError: If `x` has another shape.
    """
    try:
        backend = backend_of(stored, x)
    except BackendError as error:
        msg = f"{type(operator).__name__}: x: {error}"
        raise BackendError(msg) from None
    if adjoint_arg is not False:
        x = _transposed(x, adjoint_arg, "adjoint_arg")
    rank, n = x.ndim, operator.domain_dimension
    if rank != 2 or x.shape[axis] != n:
        # Stacks of matrices broadcast where the whole matrix is stored.
        is_stack = rank > 2 and isinstance(operator, FullMatrixOperator)
        if not is_stack or x.shape[axis] != n:
            wanted = f"[k, {n}]" if axis == -1 else f"[{n}, k]"
            also = ", transposed as adjoint_arg says" if adjoint_arg else ""
            msg = (
                f"{type(operator).__name__}: x has shape {tuple(x.shape)}{also},"
                f" expected {wanted}"
            )
            raise ShapeError(msg)
    if x.dtype == stored.dtype:
        return backend, stored, x
    # Some libraries promote no float of eight bits themselves.
    label = type(operator).__name__
    dtypes = [
        statistics_dtype(backend, part, name, label)
        for name, part in (("x", x), ("matrix", stored))
    ]
    dtype = backend.xp.result_type(*dtypes)
    return backend, backend.xp.astype(stored, dtype), backend.xp.astype(x, dtype)


def promoted(a: Array, b: Array) -> tuple[Array, Array]:
    """Return both in the wider of their dtypes, which not every library does itself."""
    xp = backend_of(a, b).xp
    if a.dtype == b.dtype:
        return a, b
    dtype = xp.result_type(a, b)
    return xp.astype(a, dtype), xp.astype(b, dtype)


def _transposed(x: Array, transpose: bool, argument: str) -> Array:
    if as_flag(transpose, argument, "LinearOperator"):
        if x.ndim < 2:
            msg = f"LinearOperator: x has shape {tuple(x.shape)}, expected two axes"
            raise ShapeError(msg)
        return x.mT
    return x
