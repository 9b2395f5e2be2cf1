"""Linear algebra of symmetric positive semi-definite and Kronecker matrices.

Functions take checked arrays of one backend. Operators, which users get, check what
they are multiplied by.
"""

from kfac_core.linalg.operators import (
    DiagonalOperator,
    FullMatrixOperator,
    LinearOperator,
)

__all__ = ["DiagonalOperator", "FullMatrixOperator", "LinearOperator"]
