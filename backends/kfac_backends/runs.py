"""Sums over many rows, of products of runs of rows: few roundings on any processor.

A sum of ``r`` products of numbers, added in whatever order, errs by at most ``r u``
times the sum of their magnitudes, to first order in the roundoff ``u`` (Higham,
Accuracy and Stability of Numerical Algorithms, 3.1). How much of that is reached is up
to the library, the shape and the processor: with 400,000 rows of two columns XLA and
MKL add one after the other, and the digits from the third on are lost.

So no product is of more rows than a run, and the products of ``k`` runs are added in
pairs, which adds ``2 log2(k)`` roundings at most (ibid., 4.2), or with compensation,
which adds two (ibid., 4.3). The error of a Gram matrix is then in each entry at most

    (min(rows, run) + 2 log2(rows / run) + 4) u  |a|' |a|,

where the four are those of the rest, of what is left of a run, and of the mean of the
two triangles.
"""

from collections.abc import Callable
from typing import Any

from kfac_core.typing import Array

FEW_COLUMNS, MANY_COLUMNS = 8, 256
"""Columns from which libraries add several sums at once, and from which a sum of runs
costs as much as it helps."""
RUN_OF_FEW, RUN, RUN_OF_MANY = 256, 2048, 4096
"""Rows of a run: of fewer columns than the first, of up to the second, of more."""


def run_length(columns: int) -> int:
    """Return the most rows that one product is of.

    Example:
        >>> run_length(2), run_length(64), run_length(1024)
        (256, 2048, 4096)
    """
    if columns < FEW_COLUMNS:
        return RUN_OF_FEW
    return RUN if columns <= MANY_COLUMNS else RUN_OF_MANY


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
    """Return ``a.T @ a``, the products of all runs computed as one stack.

    Args:
        matmul: Multiplies stacks of matrices.
        add: As `sum_of_stack`.
        reshape: That of the library.
        a: ``[..., rows, n]``, more rows than a run.

    Returns:
        ``[..., n, n]``, symmetric but for rounding.
    """
    *outer, rows, n = a.shape
    run = run_length(n)
    count = rows // run
    runs = reshape(a[..., : count * run, :], (*outer, count, run, n))
    total = add(matmul(runs.mT, runs))
    rest = a[..., count * run :, :]
    return total + matmul(rest.mT, rest)


def gram_in_turn(gram: Callable[[Any], Array], a: Any) -> Array:
    """Return ``a.T @ a``, the products of runs added one after the other.

    The number of runs takes the place of ``2 log2`` of it in the bound.

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
