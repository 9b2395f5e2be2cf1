"""A symmetric matrix by its eigenvalues, in a basis that is a Kronecker product.

For ``M = Q diag(s) Q'``, every function of the matrix is ``f(M) = Q diag(f(s)) Q'``.
The basis ``Q`` of a block is a Kronecker product of the small eigenbases of its
factors, so that nothing of the size of ``M`` is ever stored. Directions that no basis
has, as of a factor of low rank, have the eigenvalue zero: for these, ``f(M) = f(0) I +
Q diag(f(s) - f(0)) Q'``.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg.kronecker import kron
from kfac_core.typing import Array

Function = Callable[[Array], Array]
"""A function of each eigenvalue, written with the array library."""


class Eigenbasis(NamedTuple):
    """Eigenvectors of a factor, and their eigenvalues.

    Attributes:
        values: ``[r]``, not negative; for a stack of matrices ``[count, r]``.
        vectors: The eigenvectors as columns: one array ``[n, r]`` or ``[count, n, r]``;
            or several, ``[n_i, n_i]``, along the diagonal of the basis; or none, where
            the basis is the standard one.

    Example:
        >>> import numpy as np
        >>> Eigenbasis(np.asarray([1.0, 4.0]), (np.eye(3)[:, :2],)).dimension
        3
    """

    values: Array
    vectors: tuple[Array, ...] = ()

    @property
    def dimension(self) -> int:
        """Number of rows of the factor."""
        if not self.vectors:
            return int(self.values.shape[-1])
        return sum(int(part.shape[-2]) for part in self.vectors)


class Spectrum(NamedTuple):
    """The eigenvalues of a block in the product of its bases.

    Attributes:
        bases: The eigenbasis of each factor, the slow index first.
        eigenvalues: ``[r_1, .., r_k]``, not negative, one for each product of
            eigenvectors; for stacks ``[count, r_1, .., r_k]``.

    Example:
        >>> import numpy as np
        >>> a = Eigenbasis(np.asarray([1.0, 4.0]))
        >>> g = Eigenbasis(np.asarray([2.0, 3.0, 5.0]))
        >>> spectrum = Spectrum((a, g), a.values[:, None] * g.values)
        >>> spectrum.eigenvalues
        array([[ 2.,  3.,  5.],
               [ 8., 12., 20.]])
        >>> spectrum.dimension
        6
    """

    bases: tuple[Eigenbasis, ...]
    eigenvalues: Array

    @property
    def stack(self) -> tuple[int, ...]:
        """``(count,)`` for a block of groups, else ``()``."""
        shape: tuple[int, ...] = tuple(self.eigenvalues.shape)
        return shape[: len(shape) - len(self.bases)]

    @property
    def dimension(self) -> int:
        """Number of rows of the matrix, which is that of parameters."""
        return math.prod(self.stack) * math.prod(b.dimension for b in self.bases)

    @property
    def num_missing(self) -> int:
        """Number of directions that the bases lack; their eigenvalue is zero."""
        return self.dimension - math.prod(self.eigenvalues.shape)


def with_zeros(backend: Backend, values: Array, missing: int) -> Array:
    """Return ``[r]`` eigenvalues after the `missing` zeros that no basis keeps."""
    if not missing:
        return values
    device = backend.creation_device(values)
    zeros = backend.xp.zeros((missing,), dtype=values.dtype, device=device)
    every: Array = backend.xp.concat([zeros, values])
    return every


def coordinates(backend: Backend, spectrum: Spectrum, x: Array) -> Array:
    """Return ``Q' x``.

    Args:
        backend: Backend of the arrays.
        spectrum: The spectrum.
        x: ``[.., n_1, .., n_k]``, of the spectrum's dtype.

    Returns:
        ``[.., r_1, .., r_k]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> swap = np.asarray([[0.0, 1.0], [1.0, 0.0]])
        >>> basis = Eigenbasis(np.asarray([1.0, 2.0]), (swap,))
        >>> spectrum = Spectrum((basis,), basis.values)
        >>> coordinates(backend_of(swap), spectrum, np.asarray([3.0, 5.0]))
        array([5., 3.])
    """
    return _on_each_axis(backend, spectrum.bases, x, adjoint=True)


def combined(backend: Backend, spectrum: Spectrum, y: Array) -> Array:
    """Return ``Q y``: the vector that has the `coordinates` ``y``."""
    return _on_each_axis(backend, spectrum.bases, y, adjoint=False)


def dense_vectors(backend: Backend, basis: Eigenbasis) -> Array:
    """Return the vectors of a complete basis as columns, dense ``[n, n]``."""
    device = backend.creation_device(basis.values)
    eye = backend.xp.eye(basis.dimension, dtype=basis.values.dtype, device=device)
    return rows_in(backend, basis, eye)


def dense_matrix(backend: Backend, spectrum: Spectrum) -> Array:
    """Return the matrix of a product of two complete bases, dense ``[n, n]``."""
    first, second = (dense_vectors(backend, basis) for basis in spectrum.bases)
    values = backend.xp.reshape(spectrum.eigenvalues, (-1,))
    root = kron(backend, first, second) * backend.xp.sqrt(values)[None, :]
    return backend.gram(root.mT)


def rows_in(backend: Backend, basis: Eigenbasis, rows: Array) -> Array:
    """Return rows in the coordinates of one basis: each row times its vectors.

    Args:
        backend: Backend of the arrays.
        basis: The basis.
        rows: ``[.., n]``.

    Returns:
        ``[.., r]``; the rows themselves for the standard basis.
    """
    products, start = [], 0
    for part in basis.vectors:
        stop = start + part.shape[-2]
        own = rows if len(basis.vectors) == 1 else rows[..., start:stop]
        products.append(backend.matmul(own, part))
        start = stop
    if not products:
        return rows
    return products[0] if len(products) == 1 else backend.xp.concat(products, axis=-1)


def overlap(backend: Backend, new: Eigenbasis, old: Eigenbasis) -> Eigenbasis:
    """Return the squares of the inner products of the vectors of two bases.

    A matrix that is diagonal in the old basis, ``Q diag(s) Q'``, has in the new basis
    the diagonal ``V s``, for these squares ``V``, which are those of an orthogonal
    matrix where both bases are complete.

    Args:
        backend: Backend of both.
        new: The new basis, ``[n, r]``.
        old: The old basis, in as many blocks.

    Returns:
        A basis whose vectors are ``[r, r]``, to be `combined` with.
    """
    pairs = zip(new.vectors, old.vectors, strict=True)
    products = [backend.matmul(x.mT, y) for x, y in pairs]
    return Eigenbasis(new.values, tuple(product * product for product in products))


def apply(backend: Backend, spectrum: Spectrum, x: Array, function: Function) -> Array:
    """Return ``f(M) x``, of the shape of `x`; see `coordinates`."""
    values, rest = _values(backend, spectrum, function)
    product = combined(backend, spectrum, values * coordinates(backend, spectrum, x))
    return product if rest is None else product + rest * x


def diagonal(backend: Backend, spectrum: Spectrum, function: Function) -> Array:
    """Return the diagonal of ``f(M)``, ``[.., n_1, .., n_k]``.

    It is ``sum_r Q_ir^2 f(s_r)``, and the squares of a Kronecker product are the
    Kronecker product of squares.
    """
    values, rest = _values(backend, spectrum, function)
    squared = tuple(
        basis._replace(vectors=tuple(part * part for part in basis.vectors))
        for basis in spectrum.bases
    )
    found = _on_each_axis(backend, squared, values, adjoint=False)
    return found if rest is None else found + rest


def total(backend: Backend, spectrum: Spectrum, function: Function) -> Array:
    """Return the trace of ``f(M)``, 0-d: the sum of ``f`` over all eigenvalues."""
    found = backend.xp.sum(function(spectrum.eigenvalues))
    if spectrum.num_missing:
        found = found + spectrum.num_missing * function(_zero(backend, spectrum))
    return found


def inner_products(
    backend: Backend,
    spectrum: Spectrum,
    x: Array,
    function: Function,
    grouped: Callable[[Array], Array],
) -> Array:
    """Return ``x_i' f(M) x_j`` of the vectors of each of several groups.

    Args:
        backend: Backend of the arrays.
        spectrum: The spectrum.
        x: ``[count, .., n_1, .., n_k]``.
        function: ``f``.
        grouped: Splits the axis of vectors in two: groups, and those of a group.

    Returns:
        ``[groups, vectors, vectors]``.
    """
    values, rest = _values(backend, spectrum, function)
    y = coordinates(backend, spectrum, x)
    scaled, y = grouped(_flat(backend, y * values)), grouped(_flat(backend, y))
    found = backend.matmul(scaled, y.mT)
    if rest is None:
        return found
    x = grouped(_flat(backend, x))
    return found + rest * backend.matmul(x, x.mT)


def _values(
    backend: Backend, spectrum: Spectrum, function: Function
) -> tuple[Array, Array | None]:
    """Return ``f(s) - f(0)`` and ``f(0)``; of complete bases ``f(s)``, and None."""
    values = function(spectrum.eigenvalues)
    if not spectrum.num_missing:
        return values, None
    rest = function(_zero(backend, spectrum))
    return values - rest, rest


def _zero(backend: Backend, spectrum: Spectrum) -> Array:
    return backend.xp.zeros_like(backend.xp.sum(spectrum.eigenvalues))


def _flat(backend: Backend, x: Array) -> Array:
    flat: Array = backend.xp.reshape(x, (x.shape[0], -1))
    return flat


def _on_each_axis(
    backend: Backend, bases: tuple[Eigenbasis, ...], x: Array, *, adjoint: bool
) -> Array:
    """Return `x`, each of its last axes multiplied by its basis or the transpose."""
    xp, count = backend.xp, len(bases)
    before = x.ndim - count
    order = (*range(before), *range(before + 1, x.ndim), before)
    for basis in bases:
        # Each basis meets the axis in front, which then goes to the end.
        if basis.vectors:
            flat = xp.reshape(x, (*x.shape[: before + 1], -1))
            flat = _multiplied(backend, basis.vectors, flat, adjoint)
            x = xp.reshape(flat, (*flat.shape[:-1], *x.shape[before + 1 :]))
        x = xp.permute_dims(x, order)
    return x


def _multiplied(
    backend: Backend, vectors: tuple[Array, ...], x: Array, adjoint: bool
) -> Array:
    """Return ``vectors @ x`` or ``vectors' @ x``, for ``[.., n, k]``."""
    products, start = [], 0
    for part in vectors:
        matrix = part.mT if adjoint else part
        stop = start + matrix.shape[-1]
        own = x if len(vectors) == 1 else x[..., start:stop, :]
        products.append(backend.matmul(matrix, own))
        start = stop
    if len(products) == 1:
        return products[0]
    product: Array = backend.xp.concat(products, axis=-2)
    return product
