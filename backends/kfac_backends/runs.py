"""Sums over many rows, made of products of runs: few roundings on any processor.

A sum of ``r`` products of numbers, added in any order, has an error of at most ``r u``
times the sum of their magnitudes, to first order in the roundoff ``u`` (Higham,
Accuracy and Stability of Numerical Algorithms, 3.1). The library, the shape and the
processor decide how near the error comes to this bound: with 400,000 rows of two
columns, XLA and MKL add one row after the other, and lose the digits from the third on.

So no product has more rows than a run. The products of ``k`` runs are added in pairs,
which adds at most ``2 log2(k)`` roundings (ibid., 4.2), or with compensation, which
adds two (ibid., 4.3). The error of each entry of a Gram matrix is then at most

    (min(rows, run) + 2 log2(rows / run) + 4) u  |a|' |a|,

where the four covers the other additions: of the rows that are left over from runs, and
in the mean of the two triangles. A product ``a.T @ b`` has the same bound, with ``|a|'
|b|``, and the run length of the narrower of the two. Sums of rows are nested sums of
`ROWS_OF_SUM` terms: each level has ``ROWS_OF_SUM + 1`` roundings, and there are as many
levels as powers of `ROWS_OF_SUM` in the number of rows.
"""

from collections.abc import Callable
from typing import Any

from kfac_core.typing import Array

FEW_COLUMNS, FEW_OF_XLA, MANY_COLUMNS = 23, 8, 256
"""Number of columns from which a library adds several sums at once, so that shorter
runs cost as much as they help. OpenBLAS adds one row after the other in products of up
to a million multiplications on processors with AVX-512: those of a run, of fewer
columns than the first. 2,048 rows of 16 columns then err by 18 ``u``, and not by 3."""
ROWS_OF_SUM = 128
"""Number of rows that are added one after the other, where only a sum is needed."""
ROWS_OF_NARROW_RUN, ROWS_OF_RUN, ROWS_OF_WIDE_RUN = 256, 2048, 4096
"""Rows of a run: for fewer columns than the first limit, up to the second, and more."""


def run_length(columns: int, few: int = FEW_COLUMNS) -> int:
    """Return the largest number of rows of one product.

    Args:
        columns: Number of columns, of the narrower factor.
        few: Number of columns from which the library adds several sums at once.

    Returns:
        The number.

    Example:
        >>> run_length(2), run_length(64), run_length(1024)
        (256, 2048, 4096)
    """
    if columns < few:
        return ROWS_OF_NARROW_RUN
    return ROWS_OF_RUN if columns <= MANY_COLUMNS else ROWS_OF_WIDE_RUN


def sum_of_stack(stack: Any) -> Array:
    """Return the sum over the third axis from the end, added in pairs.

    Args:
        stack: ``[..., count, n, m]``, ``count`` at least one.

    Returns:
        ``[..., n, m]``.
    """
    odd = None
    while (count := stack.shape[-3]) > 1:
        if count % 2:
            last = stack[..., -1:, :, :]
            odd = last if odd is None else odd + last
        half = count // 2
        stack = stack[..., :half, :, :] + stack[..., half : 2 * half, :, :]
    total: Array = (stack if odd is None else stack + odd)[..., 0, :, :]
    return total


def gram_in_stack(
    matmul: Callable[[Any, Any], Array],
    add: Callable[[Any], Array],
    reshape: Callable[[Any, tuple[int, ...]], Any],
    a: Any,
) -> Array:
    """Return ``a.T @ a``, with the products of all runs computed as one stack.

    Args:
        matmul: Multiplies stacks of matrices.
        add: Adds a stack, as `sum_of_stack` does.
        reshape: The library's function.
        a: ``[..., rows, n]``, with more rows than a run.

    Returns:
        ``[..., n, n]``, symmetric up to rounding.
    """
    return cross_in_stack(matmul, add, reshape, a, a)


def cross_in_stack(
    matmul: Callable[[Any, Any], Array],
    add: Callable[[Any], Array],
    reshape: Callable[[Any, tuple[int, ...]], Any],
    a: Any,
    b: Any,
) -> Array:
    """Return ``a.T @ b`` as `gram_in_stack` does, for ``b`` ``[..., rows, m]``."""
    *outer, rows, n = a.shape
    m = b.shape[-1]
    run = run_length(min(n, m))
    count = rows // run
    ones = reshape(a[..., : count * run, :], (*outer, count, run, n))
    others = ones
    if b is not a:
        others = reshape(b[..., : count * run, :], (*outer, count, run, m))
    total = add(matmul(ones.mT, others))
    return total + matmul(a[..., count * run :, :].mT, b[..., count * run :, :])


def cross_in_turn(matmul: Callable[[Any, Any], Array], a: Any, b: Any) -> Array:
    """Return ``a.T @ b`` as `gram_in_turn` does, for ``b`` ``[..., rows, m]``."""
    run = run_length(min(a.shape[-1], b.shape[-1]))
    total = matmul(a[..., :run, :].mT, b[..., :run, :])
    for start in range(run, a.shape[-2], run):
        stop = start + run
        total = total + matmul(a[..., start:stop, :].mT, b[..., start:stop, :])
    return total


def sum_of_rows(
    add: Callable[[Any, int], Any],
    reshape: Callable[[Any, tuple[int, ...]], Any],
    x: Any,
) -> Array:
    """Return the sum over the first axis, as sums of sums of runs.

    Args:
        add: Sums over an axis, in any order.
        reshape: The library's function.
        x: ``[rows, ...]``.

    Returns:
        ``[...]``.
    """
    rest = None
    while (rows := x.shape[0]) > ROWS_OF_SUM:
        count = rows // ROWS_OF_SUM
        whole = count * ROWS_OF_SUM
        if whole < rows:
            part = add(x[whole:, ...], 0)
            rest = part if rest is None else rest + part
        x = add(reshape(x[:whole, ...], (count, ROWS_OF_SUM, *x.shape[1:])), 1)
    total: Array = add(x, 0)
    return total if rest is None else total + rest


def gram_in_turn(gram: Callable[[Any], Array], a: Any) -> Array:
    """Return ``a.T @ a``, with the products of runs added one after the other.

    In the bound, the number of runs takes the place of twice its logarithm.

    Args:
        gram: Returns the Gram matrix of one run.
        a: ``[..., rows, n]``, at least one row.

    Returns:
        ``[..., n, n]``.
    """
    run = run_length(a.shape[-1])
    total = gram(a[..., :run, :])
    for start in range(run, a.shape[-2], run):
        total = total + gram(a[..., start : start + run, :])
    return total
