"""The form of one side of a fully connected layer, from the options of its block."""

from kfac_core.errors import ArgumentError
from kfac_core.fisher_factors import BlockDiagonal, Dense, Diagonal, Form, LowRank


def form_of_side(
    label: str,
    *,
    diagonal: bool = False,
    max_rows: int | None = None,
    num_blocks: int = 1,
) -> Form:
    """Return the form that the options of a block ask for.

    Args:
        label: Name of the factor, for messages.
        diagonal: Whether to keep the diagonal alone.
        max_rows: How many of the latest rows to keep, in place of their matrix.
        num_blocks: Number of blocks to keep along the diagonal; 1 keeps the whole
            matrix.

    Returns:
        The form.

    Raises:
        ArgumentError: If more than one of these forms is asked for.
    """
    if diagonal + (max_rows is not None) + (num_blocks != 1) > 1:
        msg = (
            f"{label}: the diagonal approximation is {diagonal}, max_rows {max_rows}"
            f" and blocks {num_blocks}; a factor has one of these forms: give one"
        )
        raise ArgumentError(msg)
    if diagonal:
        return Diagonal()
    if max_rows is not None:
        return LowRank(max_rows=max_rows)
    return Dense() if num_blocks == 1 else BlockDiagonal(blocks=num_blocks)
