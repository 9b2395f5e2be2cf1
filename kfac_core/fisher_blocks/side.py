"""The factor of one side of a fully connected layer, in the requested form."""

from typing import Any

from kfac_core.errors import ArgumentError
from kfac_core.fisher_factors import (
    DiagonalKroneckerFactor,
    FullyConnectedBlockDiagonalFactor,
    FullyConnectedKroneckerFactor,
    FullyConnectedLowRankFactor,
)

RowsKroneckerFactor = (
    FullyConnectedKroneckerFactor
    | DiagonalKroneckerFactor
    | FullyConnectedLowRankFactor
    | FullyConnectedBlockDiagonalFactor
)


def rows_factor(
    size: int,
    has_bias: bool = False,
    *,
    diagonal: bool = False,
    max_rows: int | None = None,
    num_blocks: int = 1,
    **options: Any,
) -> RowsKroneckerFactor:
    """Return the factor of the rows of one side.

    Args:
        size: Length of a row.
        has_bias: Whether each row ends in a one that is not stored.
        diagonal: Whether to keep the diagonal alone.
        max_rows: How many of the latest rows to keep, in place of their matrix.
        num_blocks: Number of blocks to keep along the diagonal; 1 keeps the whole
            matrix.
        **options: Further fields of the factor, its name among them.

    Returns:
        The factor.

    Raises:
        ArgumentError: If more than one of these forms is asked for, or a number does
            not fit.
    """
    if diagonal + (max_rows is not None) + (num_blocks != 1) > 1:
        msg = (
            f"{options['name']}: the diagonal approximation is {diagonal}, max_rows"
            f" {max_rows} and blocks {num_blocks}; a factor has one of these forms:"
            " give one"
        )
        raise ArgumentError(msg)
    if diagonal:
        return DiagonalKroneckerFactor(size, has_bias, **options)
    if max_rows is not None:
        return FullyConnectedLowRankFactor(size, has_bias, max_rows=max_rows, **options)
    if num_blocks != 1:
        return FullyConnectedBlockDiagonalFactor(
            size, has_bias, num_blocks=num_blocks, **options
        )
    return FullyConnectedKroneckerFactor(size, has_bias, **options)
