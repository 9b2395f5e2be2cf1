"""The work as most libraries write it: patches, ones appended, a product, an inverse.

So do kfac-pytorch and those that grew from it; this is written here, of the library's
own functions, for any array library.
"""

from typing import Any


def with_ones(xp: Any, rows: Any) -> Any:
    """Return rows with a one appended to each: a copy."""
    ones = xp.ones((rows.shape[0], 1), dtype=rows.dtype)
    return xp.concat([rows, ones], axis=1)


def second_moment(xp: Any, rows: Any, has_bias: bool = False) -> Any:
    """Return the second moment of rows, the division over the rows first."""
    if has_bias:
        rows = with_ones(xp, rows)
    return rows.T @ (rows / rows.shape[0])


def damped(xp: Any, a: Any, damping: float) -> Any:
    """Return ``a + damping I``."""
    return a + damping * xp.eye(a.shape[0], dtype=a.dtype)
